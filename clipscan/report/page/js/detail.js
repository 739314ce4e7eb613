/** The sample in focus: its picture, caption, reasons and scores, its neighbours when asked for. */
import { copyText, h } from "./dom.js";
import { framed } from "./pictures.js";
import { captionOf, count, many, number, plain, visible } from "./text.js";

const LONG = 600; // characters of a caption that are shown before "more"

/** actions: decide(word), openGroup(group). */
export class Detail {
  constructor({ source, decisions, label, n, actions }) {
    Object.assign(this, { source, decisions, label, n, actions });
    this.sample = null;
    this.withNear = false;
    this.buttons = decisionButtons((word) => actions.decide(word));
    this.body = h("div", { class: "about", "aria-live": "off" });
    this.element = h("aside", { class: "detail", "aria-label": "Sample in focus" }, this.body, this.buttons);
  }

  show(sample) {
    this.sample = sample;
    this.buttons.hidden = !sample;
    this.body.replaceChildren(
      ...(sample ? this.#parts(sample) : [h("p", { class: "muted" }, "Nothing passes this filter.")]),
    );
    if (sample && this.withNear) this.#showNear();
    this.update();
  }

  update() {
    if (this.sample) markButtons(this.buttons, this.decisions.get(this.sample), this.sample.locked);
  }

  /** Neighbours on or off, for this sample and those after it. */
  toggleNear() {
    this.withNear = !this.withNear;
    this.show(this.sample);
  }

  #parts(sample) {
    const place = h(
      "button",
      { class: "copy name", title: "copy", onclick: () => copyText(`${sample.shard}/${sample.key}`) },
      h("code", {}, visible(sample.shard, 60), h("span", { class: "slash" }, "/"), visible(sample.key, 60)),
    );
    const near = h(
      "button",
      { class: "plain", "aria-expanded": this.withNear, onclick: () => this.toggleNear() },
      this.withNear ? "Hide neighbours" : "Neighbours",
    );
    this.near = h("div", { class: "nearby" });
    const frame = framed(this.source, sample);
    frame.addEventListener("click", () => frame.classList.toggle("clear"));
    return [
      frame,
      h("h3", {}, captionOf(sample, LONG), moreOf(sample)),
      h("p", { class: "figures" }, this.#figures(sample)),
      place,
      sample.locked && h("p", { class: "why" }, "Its name is too long to be decided on here."),
      sample.why && h("p", { class: "why" }, visible(sample.why, 500)),
      sample.groups.map((group) => this.#groupOf(group)),
      sample.others?.length ? this.#others(sample.others) : null,
      h("p", {}, near),
      this.near,
    ]
      .flat()
      .filter(Boolean);
  }

  #figures(sample) {
    const rank = sample.rank ? `rank ${count(sample.rank)}` : "no suspect";
    return [
      h("b", {}, number(sample.score)),
      ` ${this.label} · ${rank}`,
      sample.listed ? h("span", { class: "tag" }, "on the drop list") : null,
    ];
  }

  #groupOf(group) {
    const words =
      group.kind === "copies"
        ? many(group.size, "near-copy").replace("copys", "copies")
        : many(group.size, "pair");
    return h(
      "p",
      { class: "member" },
      h("button", { class: "link", onclick: () => this.actions.openGroup(group) }, `Group ${group.number}`),
      `, ${words}: `,
      plain(group.verdict || group.kind, 90),
    );
  }

  #others(others) {
    const level = (rank) => 1 - Math.log(Math.max(1, Math.min(rank, this.n))) / Math.log(Math.max(2, this.n));
    return h(
      "ul",
      { class: "ranks", "aria-label": `Ranks by other scores, of ${count(this.n)}` },
      others.map(([[name, label, about], value, rank]) =>
        h(
          "li",
          { title: `${label} ${number(value)}: ${about}` },
          h("span", {}, label || name),
          h("meter", { value: level(rank), "aria-label": label || name }),
          h("b", {}, count(rank)),
        ),
      ),
    );
  }

  async #showNear() {
    const sample = this.sample;
    const found = await this.source.neighbours(sample);
    if (sample !== this.sample) return;
    if (typeof found === "string" || !found.length) {
      this.near.replaceChildren(h("p", { class: "muted" }, found.length ? found : "It has no neighbours."));
      return;
    }
    this.near.replaceChildren(
      h(
        "ol",
        { class: "beside" },
        found.map(([other, distance]) =>
          h(
            "li",
            { title: `${plain(other.shard, 100)} / ${plain(other.key, 100)}` },
            framed(this.source, other),
            h("b", {}, number(distance)),
            h("span", { class: "words" }, captionOf(other, 80)),
          ),
        ),
      ),
    );
    this.near.scrollIntoView({ block: "nearest" });
  }
}

function moreOf(sample) {
  if (sample.caption.length <= LONG) return null;
  const button = h(
    "button",
    { class: "link", onclick: () => button.parentNode.replaceChildren(captionOf(sample, 1e6)) },
    ` ${count(sample.caption.length)} characters`,
  );
  return button;
}

/** Drop, keep, unsure: what the keys d, s and u do. */
export function decisionButtons(decide) {
  const button = (word, label, key) =>
    h(
      "button",
      { class: `decide ${word}`, "data-word": word, "aria-pressed": "false", onclick: () => decide(word) },
      label,
      h("kbd", { "aria-hidden": "true" }, key),
    );
  return h(
    "div",
    { class: "decisions" },
    button("drop", "Drop", "d"),
    button("keep", "Keep", "s"),
    button("unsure", "Unsure", "u"),
  );
}

export function markButtons(buttons, word, locked = false) {
  for (const button of buttons.querySelectorAll(".decide")) {
    button.setAttribute("aria-pressed", button.dataset.word === word);
    button.disabled = locked;
  }
}
