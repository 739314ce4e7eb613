/** The review: groups and suspects side by side with what is decided, and what the keys do. */
import { Border } from "./border.js";
import { Detail } from "./detail.js";
import { h, say } from "./dom.js";
import { EVERYTHING, filterBar, passing } from "./filters.js";
import { Gallery } from "./gallery.js";
import { GroupsView } from "./groups.js";
import { MapView } from "./map_view.js";
import { listOf } from "./samples.js";
import { many } from "./text.js";
import { toolbar } from "./toolbar.js";

export class Review {
  constructor(root, data, source, decisions) {
    Object.assign(this, { data, source, decisions });
    this.place = -1;
    const actions = {
      decide: (word) => this.decide(word),
      openGroup: (group) => this.openGroup(group),
      decideGroup: (group, word) => this.decideGroup(group, word),
      keepBest: (group) => this.keepBest(group),
    };
    this.border = data.border ? new Border(data, decisions) : null;
    this.groups = new GroupsView({ source, decisions, n: data.n, total: data.group_count, actions });
    this.gallery = new Gallery({ source, decisions, onFocus: (place) => this.focus(place) });
    this.detail = new Detail({ source, decisions, label: data.label, n: data.n, actions });
    this.filter = filterBar({
      groups: source.groups,
      options: source.options(),
      label: data.label,
      all: data.served ? "all samples" : "all suspects",
      onChange: (filter) => this.select(filter),
    });
    this.shown = h("span", { class: "shown" });
    this.panels = {
      groups: h("div", { class: "panel", role: "tabpanel", "aria-label": "Groups" }, this.groups.element),
      suspects: h(
        "div",
        { class: "panel", role: "tabpanel", "aria-label": "Suspects" },
        this.filter.element,
        this.#all(),
        h("div", { class: "split" }, this.gallery.element, this.detail.element),
      ),
    };
    if (data.map) this.#addMap();
    this.tools = toolbar(this);
    root.append(this.tools.element, ...Object.values(this.panels));
    decisions.onChange(() => this.update());
  }

  /** Show what there is: groups first. */
  async start() {
    await this.select({ ...EVERYTHING });
    this.open(this.source.groups.length ? "groups" : "suspects");
    this.update();
  }

  open(tab) {
    this.tab = tab;
    for (const [name, panel] of Object.entries(this.panels)) panel.hidden = name !== tab;
    this.tools.mark(tab);
    if (tab === "groups" && this.groups.current < 0) this.groups.focus(0, false);
    if (tab === "map") this.map.update();
    if (tab === "suspects") this.focus(Math.max(0, this.place));
  }

  /** Samples of the gallery, whatever the filter says. */
  showSamples(samples) {
    this.filter.set(EVERYTHING, false);
    this.show(listOf(samples));
    this.open("suspects");
  }

  #addMap() {
    const { data, source, decisions } = this;
    this.map = new MapView({
      data,
      source,
      decisions,
      label: data.label,
      showSamples: (samples) => this.showSamples(samples),
    });
    this.panels.map = h("div", { class: "panel", role: "tabpanel", "aria-label": "Map" }, this.map.element);
  }

  /** On narrow screens the filter is out of the way until it is asked for. */
  showFilter() {
    if (this.tab !== "suspects") this.open("suspects");
    this.panels.suspects.classList.toggle("filtering");
  }

  async select(filter) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const list = await this.source.select(filter, passing(filter, this.decisions));
      if (turn === this.turn) await this.show(list); // an answer that was overtaken is none
    } catch (wrong) {
      say(`The rows cannot be read: ${wrong.message}`);
    }
  }

  async show(list) {
    this.list = list;
    this.gallery.setList(list);
    this.shown.textContent = many(list.length, "sample");
    await list.load(0, Math.min(100, list.length));
    this.place = -1;
    this.focus(list.length ? 0 : -1);
  }

  focus(place) {
    if (place >= this.list.length) return;
    this.place = place;
    const sample = place < 0 ? null : this.list.at(place);
    if (place >= 0) this.gallery.focus(place);
    if (sample || place < 0) this.detail.show(sample);
    else
      this.list
        .load(place, place + 100)
        .then(() => this.place === place && this.detail.show(this.list.at(place)));
  }

  update() {
    this.gallery.update();
    this.detail.update();
    this.groups.update();
    this.border?.update();
    if (this.tab === "map") this.map.update();
    this.tools.update();
  }

  /** Decide on what is in focus, and go on. */
  decide(word) {
    if (this.tab === "map") return this.map.decide(word);
    if (this.tab === "groups") return this.groups.group && this.decideGroup(this.groups.group, word, true);
    const sample = this.list.at(this.place);
    if (!sample) return undefined;
    this.decisions.decide([sample], word);
    return word ? this.advance() : undefined;
  }

  /** To the next sample without a decision, after this one or else from the first. */
  async advance() {
    const { list, place } = this;
    for (let i = 1; i < list.length; i += 1) {
      const next = (place + i) % list.length;
      if (!list.at(next)) await list.load(next, next + 100);
      if (list !== this.list) return;
      const sample = list.at(next);
      if (sample && !sample.locked && !this.decisions.get(sample)) {
        this.focus(next);
        return;
      }
    }
    say("Everything that the filter shows is decided.");
  }

  decideGroup(group, word, goOn = false) {
    const changed = this.decisions.decide(group.members, word);
    say(
      changed
        ? `group ${group.number}: ${many(changed, "sample")} ${word || "open again"}`
        : `group ${group.number} was decided so`,
    );
    if (goOn && word) this.groups.advance();
  }

  /** Of near-copies the one whose caption fits best. One step to undo. */
  keepBest(group) {
    if (!group?.best || group.kind !== "copies") return;
    const pairs = group.members
      .filter((one) => !one.locked)
      .map((one) => [one.name, one === group.best ? "keep" : "drop"]);
    say(`group ${group.number}: ${many(this.decisions.take(pairs), "decision")}`);
  }

  openGroup(group) {
    this.filter.set({ group: group.number });
    this.open("suspects");
  }

  /** Take the last step back, and look at what it was about. */
  undo() {
    const step = this.decisions.undo();
    if (!step) return say("Nothing is left to undo.");
    const name = step.words?.length === 1 ? step.words[0][0] : null;
    for (let i = 0; name && i < this.list.length; i += 1) {
      const place = (this.place + this.list.length - i) % this.list.length;
      if (this.list.at(place)?.name === name) return this.focus(place);
    }
    return undefined;
  }

  /** One decision for all that the filter shows. */
  async decideAll(word) {
    const { list } = this;
    try {
      await list.load(0, list.length);
    } catch (wrong) {
      say(wrong.message);
      return;
    }
    const samples = Array.from({ length: list.length }, (_, i) => list.at(i)).filter(Boolean);
    say(`${many(this.decisions.decide(samples, word), "sample")} changed`);
  }

  #all() {
    const button = (word, label) =>
      h("button", { class: "plain", onclick: () => this.decideAll(word) }, label);
    return h(
      "div",
      { class: "all", role: "group", "aria-label": "All that the filter shows" },
      this.shown,
      " shown: all of them ",
      button("drop", "drop"),
      button("keep", "keep"),
      button("unsure", "unsure"),
      button("", "open again"),
    );
  }
}
