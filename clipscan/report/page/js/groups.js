/** Groups before samples: what each is and why, its montage, and one decision for all of it. */
import { eachFrame, h } from "./dom.js";
import { decisionButtons, markButtons } from "./detail.js";
import { framed } from "./pictures.js";
import { count, many, number, percent, plain, visible } from "./text.js";

const MONTAGE = 24;
const KINDS = { convicted: "convicted", alike: "captions alike", copies: "near-copies" };

/** actions: openGroup(group), decideGroup(group, word), keepBest(group). */
export class GroupsView {
  constructor({ source, decisions, n, total, actions }) {
    Object.assign(this, { source, decisions, n, actions });
    this.groups = source.groups;
    this.current = -1;
    this.members = new WeakMap(); // by their cell of a montage
    this.cards = this.groups.map((group, place) =>
      h("article", {
        class: "row",
        "data-place": place,
        tabindex: "-1",
        "aria-label": `Group ${group.number}`,
      }),
    );
    const more =
      total > this.groups.length
        ? h("p", { class: "muted" }, `The first ${count(this.groups.length)} of ${count(total)} groups.`)
        : null;
    const none = this.groups.length
      ? null
      : h("p", { class: "muted" }, "There are no groups. Go on with the suspects.");
    this.element = h("div", { class: "rows" }, none, this.cards, more);
    this.waiting = [];
    this.fillNext = eachFrame(() => this.#fillNext());
    const near = (entries) => {
      this.waiting.push(...entries.filter((one) => one.isIntersecting).map((one) => one.target));
      this.fillNext();
    };
    this.seen = new IntersectionObserver(near, { root: this.element, rootMargin: "900px" });
    this.cards.forEach((card) => this.seen.observe(card));
    this.element.addEventListener("pointerdown", (event) => {
      const card = event.target.closest(".row");
      if (card) this.focus(Number(card.dataset.place), false);
    });
  }

  focus(place, scroll = true) {
    if (!this.groups.length) return;
    this.cards[this.current]?.classList.remove("current");
    this.current = Math.max(0, Math.min(this.groups.length - 1, place));
    const card = this.cards[this.current];
    this.#fill(card);
    card.classList.add("current");
    if (scroll) card.scrollIntoView({ block: "nearest" });
  }

  get group() {
    return this.groups[this.current] ?? null;
  }

  /** To the next group that is not decided as a whole. */
  advance() {
    const next = this.groups.findIndex((group, i) => i > this.current && this.#tally(group).left);
    if (next >= 0) this.focus(next);
  }

  update() {
    for (const card of this.cards) if (card.firstChild) this.#mark(card);
  }

  /** One card a frame, so that scrolling stays smooth. */
  #fillNext() {
    const card = this.waiting.shift();
    if (!card) return;
    this.#fill(card);
    this.fillNext();
  }

  #fill(card) {
    if (card.firstChild) return;
    this.seen.unobserve(card);
    const group = this.groups[Number(card.dataset.place)];
    card.append(this.#about(group), this.#montage(group));
    this.#mark(card);
  }

  #about(group) {
    const agreement = group.agreement === null ? "" : `, which agree to ${group.agreement.toFixed(2)}`;
    const captions =
      group.distinct === 1
        ? "all under one caption"
        : `${count(group.distinct)} different captions${agreement}`;
    const bound =
      group.kind === "copies" && group.bound !== null
        ? `; each within ${number(group.bound)} of another`
        : "";
    return h(
      "div",
      { class: "told" },
      h(
        "p",
        { class: "kind" },
        h("span", { class: `chip ${group.kind}` }, KINDS[group.kind]),
        ` group ${group.number}`,
      ),
      h(
        "p",
        { class: "big" },
        count(group.size),
        h(
          "small",
          {},
          ` ${group.kind === "copies" ? "pictures" : "pairs"}, ${percent(group.size, this.n)} of all`,
        ),
      ),
      group.verdict && h("h3", { class: "finding" }, visible(group.verdict, 200)),
      group.says && h("p", { class: "why" }, capital(group.says), ". ", capital(group.figures), "."),
      h("dl", { class: "evidence" }, this.#evidence(group)),
      h("p", { class: "why" }, captions, bound, "."),
      h(
        "ul",
        { class: "captions" },
        group.captions
          .slice(0, 4)
          .map(([words, times]) =>
            h(
              "li",
              { title: plain(words, 300) },
              h("span", {}, `${count(times)} ×`),
              " ",
              h("bdi", { dir: "auto" }, visible(words, 90)),
            ),
          ),
      ),
    );
  }

  #evidence(group) {
    const figures = [
      ...(group.poison
        ? [["estimated poison", group.poison, "by the share of its pictures that fit their captions"]]
        : []),
      ...group.evidence,
    ];
    return figures.map(([label, value, about]) =>
      h("div", { title: about }, h("dt", {}, label), h("dd", {}, value)),
    );
  }

  #montage(group) {
    const shown = group.members
      .slice(0, MONTAGE)
      .filter((member, i) => i < MONTAGE / 2 || this.source.picture(member).url);
    const buttons = decisionButtons((word) => this.actions.decideGroup(group, word));
    const best =
      group.kind === "copies" && group.best
        ? h(
            "button",
            {
              class: "plain",
              title: `keeps ${plain(group.best.shard, 80)} / ${plain(group.best.key, 80)}, whose caption fits best`,
              onclick: () => this.actions.keepBest(group),
            },
            "Keep the best, drop the rest",
          )
        : null;
    const open = h(
      "button",
      { class: "plain", onclick: () => this.actions.openGroup(group) },
      group.members.length > 1 ? `Open its ${count(group.members.length)}` : "Open",
    );
    const unlisted =
      group.size > group.members.length
        ? h(
            "p",
            { class: "muted" },
            `${count(group.members.length)} of its ${many(group.size, "member")} are listed here, and decisions are about these.`,
          )
        : null;
    return h(
      "div",
      { class: "act" },
      h(
        "div",
        { class: "montage" },
        shown.map((member) => this.#cell(member)),
      ),
      unlisted,
      h("div", { class: "answers" }, buttons, best, open, h("span", { class: "tally" })),
    );
  }

  #cell(member) {
    const cell = h(
      "span",
      { class: "cell", title: `${plain(member.shard, 100)} / ${plain(member.key, 100)}` },
      framed(this.source, member),
    );
    this.members.set(cell, member);
    return cell;
  }

  #tally(group) {
    const found = { drop: 0, keep: 0, unsure: 0, left: 0 };
    for (const member of group.members) found[this.decisions.get(member) || "left"] += 1;
    return found;
  }

  #mark(card) {
    const group = this.groups[Number(card.dataset.place)];
    const tally = this.#tally(group);
    const whole = ["drop", "keep", "unsure"].find((word) => tally[word] === group.members.length) ?? "";
    markButtons(card, whole);
    card.dataset.decision = whole;
    const told = ["drop", "keep", "unsure"]
      .filter((word) => tally[word])
      .map((word) => `${count(tally[word])} ${word}`);
    card.querySelector(".tally").textContent = told.length
      ? told.join(" · ") + (tally.left ? ` · ${count(tally.left)} open` : "")
      : "";
    card.querySelectorAll(".cell").forEach((cell) => {
      const member = this.members.get(cell);
      cell.dataset.decision = this.decisions.get(member) || (this.decisions.dropped(member) ? "listed" : "");
    });
  }
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
