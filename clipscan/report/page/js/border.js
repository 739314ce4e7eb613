/** The border on the histogram: dragged, set to a share, a score or the estimate; what it would drop. */
import { h, svg } from "./dom.js";
import { count, many, number, percent } from "./text.js";

const STEPS = 1000; // of the slider

/** Counts above a border: exact among the suspects, by bins below them. */
export class ScoreCounts {
  constructor({ scores, clean, edges, counts }, n) {
    Object.assign(this, { scores, clean, edges, counts, n });
  }

  /** {count, exact} of the scores above `border`. */
  above(border) {
    const { scores, edges, counts } = this;
    if (!scores.length || border >= scores.at(-1))
      return { count: firstNotAbove(scores, border), exact: true };
    let sum = 0;
    for (let i = counts.length - 1; i >= 0; i -= 1) {
      if (edges[i] >= border) sum += counts[i];
      else {
        const part = Math.max(0, (edges[i + 1] - border) / (edges[i + 1] - edges[i]));
        return { count: Math.max(scores.length, Math.round(sum + part * counts[i])), exact: false };
      }
    }
    return { count: sum, exact: border < edges[0] }; // some are as low as the first edge, and not above it
  }

  /** The border that drops `wanted` samples, as nearly as is known. */
  dropping(wanted) {
    const { scores, edges, counts } = this;
    if (wanted <= 0) return edges.at(-1);
    if (wanted < scores.length) return (scores[wanted - 1] + scores[wanted]) / 2;
    let left = wanted;
    for (let i = counts.length - 1; i >= 0; i -= 1) {
      if (counts[i] >= left) return edges[i + 1] - (left / counts[i]) * (edges[i + 1] - edges[i]);
      left -= counts[i];
    }
    return edges[0];
  }

  /** Expected share of poison among what is above, by the held-out clean pairs; null without them. */
  precision(border) {
    const { count: above, exact } = this.above(border);
    if (!this.clean || !above || !exact || above > this.clean.length) return null;
    return Math.max(0, 1 - (this.clean[above - 1] * this.n) / above);
  }
}

/** How many of a descending list are above a value. */
function firstNotAbove(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Adds the border to the histogram of the section #scores. */
export class Border {
  constructor(data, decisions) {
    const found = data.border;
    Object.assign(this, {
      decisions,
      n: data.n,
      listed: data.counts.dropped ?? 0,
      label: data.label,
      estimate: found.estimate,
    });
    this.counts = new ScoreCounts(found, data.n);
    [this.left, this.right, this.top, this.bottom] = found.frame;
    this.scale = found.log ? Math.log : (value) => value;
    this.back = found.log ? Math.exp : (value) => value;
    this.low = this.scale(found.edges[0]);
    this.high = this.scale(found.edges.at(-1));
    this.drawing = document.querySelector("#scores .histogram svg");
    if (this.drawing) this.#build();
  }

  /** Place on the drawing of a score, and back. */
  x(score) {
    const at =
      this.left + ((this.right - this.left) * (this.scale(score) - this.low)) / (this.high - this.low);
    return Math.max(this.left, Math.min(this.right, at));
  }

  score(x) {
    const share = Math.max(0, Math.min(1, (x - this.left) / (this.right - this.left)));
    return this.back(this.low + share * (this.high - this.low));
  }

  #build() {
    this.handle = svg(
      "g",
      { class: "border" },
      svg("rect", { x: -9, width: 18, y: this.top - 14, height: this.bottom - this.top + 14, class: "grip" }),
      svg("line", { x1: 0, x2: 0, y1: this.top - 6, y2: this.bottom }),
      svg("circle", { cx: 0, cy: this.top - 6, r: 6 }),
    );
    this.drawing.append(this.#interval(), this.handle);
    this.drawing.querySelectorAll(".line, text.cut").forEach((old) => old.remove());
    this.slider = h("input", {
      type: "range",
      min: 0,
      max: STEPS,
      step: 1,
      "aria-label": `Border on ${this.label}`,
    });
    this.exactly = h("input", { type: "number", step: "any", "aria-label": "Border: score" });
    this.share = h("input", {
      type: "number",
      step: "any",
      min: 0,
      max: 100,
      "aria-label": "Border: per cent of all",
    });
    this.told = h("p", { class: "told", "aria-live": "polite" });
    const button = (label, border) =>
      h("button", { class: "plain", onclick: () => this.decisions.moveBorder(border) }, label);
    const row = h(
      "div",
      { class: "answers" },
      h("label", {}, "drop above ", this.exactly),
      h("label", {}, "or ", this.share, " %"),
      this.estimate?.border != null ? button("To the estimate", this.#below(this.estimate.number)) : null,
      button("Back to the drop list", null),
    );
    this.drawing.after(this.slider, this.told, row);
    this.#listen();
    this.update();
  }

  /** A border that takes just so many. */
  #below(wanted) {
    return this.counts.dropping(wanted);
  }

  #interval() {
    if (!this.estimate) return svg("g");
    const { fewest, most } = this.estimate;
    const [from, to] = [
      this.x(this.counts.dropping(most)),
      this.x(this.counts.dropping(Math.max(1, fewest))),
    ];
    const band = svg("rect", {
      class: "interval",
      x: Math.min(from, to),
      width: Math.max(3, Math.abs(to - from)),
      y: this.top,
      height: this.bottom - this.top,
    });
    band.append(
      svg(
        "title",
        {},
        `the estimate: ${many(this.estimate.number, "sample")}, ${count(fewest)} to ${count(most)}`,
      ),
    );
    return band;
  }

  #listen() {
    const move = (x, begins) => this.decisions.moveBorder(this.score(x), begins);
    const place = (event) => {
      const box = this.drawing.getBoundingClientRect();
      return ((event.clientX - box.left) * this.drawing.viewBox.baseVal.width) / box.width;
    };
    this.handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.handle.setPointerCapture(event.pointerId);
      this.dragged = false;
    });
    this.handle.addEventListener("pointermove", (event) => {
      if (!this.handle.hasPointerCapture(event.pointerId)) return;
      move(place(event), !this.dragged);
      this.dragged = true;
    });
    this.slider.addEventListener("input", () => {
      move(this.left + (this.slider.value / STEPS) * (this.right - this.left), !this.sliding);
      this.sliding = true;
    });
    this.slider.addEventListener("change", () => (this.sliding = false));
    this.exactly.addEventListener(
      "change",
      () => this.exactly.value !== "" && this.decisions.moveBorder(Number(this.exactly.value)),
    );
    this.share.addEventListener(
      "change",
      () =>
        this.share.value !== "" &&
        this.decisions.moveBorder(this.#below(Math.ceil((this.n * this.share.value) / 100))),
    );
  }

  update() {
    if (!this.drawing) return;
    const { border } = this.decisions;
    const shown = border ?? this.counts.dropping(this.listed);
    const x = this.x(shown);
    this.handle.setAttribute("transform", `translate(${x} 0)`);
    this.handle.classList.toggle("set", border !== null);
    if (document.activeElement !== this.slider)
      this.slider.value = (STEPS * (x - this.left)) / (this.right - this.left);
    for (const bar of this.drawing.querySelectorAll("rect[x]:not(.grip):not(.interval)")) {
      bar.classList.toggle("cut", Number(bar.getAttribute("x")) + Number(bar.getAttribute("width")) / 2 >= x);
    }
    this.#tell(border);
  }

  #tell(border) {
    const found = border === null ? { count: this.listed, exact: true } : this.counts.above(border);
    this.exactly.value = border === null ? "" : Number(border.toPrecision(6));
    this.share.value = border === null ? "" : Number(((100 * found.count) / this.n).toPrecision(3));
    const about = found.exact ? "" : "about ";
    const precision = border === null ? null : this.counts.precision(border);
    const expected =
      precision === null
        ? ""
        : ` By the held-out clean pairs, ${percent(precision, 1)} of them are expected to be poison.`;
    const estimate = this.estimate
      ? ` The estimate is ${count(this.estimate.number)} (${count(this.estimate.fewest)} to ${count(this.estimate.most)}, shaded).`
      : "";
    this.told.textContent =
      border === null
        ? `No border is set: the drop list stays as it is, with ${many(this.listed, "sample")}.${estimate}`
        : `A border at ${number(border)} drops ${about}${many(found.count, "sample")}, ${percent(found.count, this.n)} of ${count(this.n)}.${expected}${estimate}`;
  }

  /** How many are dropped before any single decision. */
  base(border = this.decisions.border) {
    return border === null ? { count: this.listed, exact: true } : this.counts.above(border);
  }
}
