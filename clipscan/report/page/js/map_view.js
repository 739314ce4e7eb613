/** The map on a canvas: moved and zoomed by mouse, touch and buttons, with a lasso whose points are decided on. */
import { decisionButtons } from "./detail.js";
import { eachFrame, h } from "./dom.js";
import { MapPainter } from "./map_painter.js";
import { MapPoints } from "./map_points.js";
import { framed } from "./pictures.js";
import { captionOf, many, number, plain, visible } from "./text.js";

const REACH = 10; // pixels from a point at which it is meant
const DEEPEST = 400; // times that one can zoom in

export class MapView {
  constructor({ data, source, decisions, label, showSamples }) {
    Object.assign(this, { source, decisions, label });
    this.points = new MapPoints(data, source);
    this.view = { x: 0.5, y: 0.5, zoom: 1 };
    this.lasso = null;
    this.chosen = [];
    this.canvas = h("canvas", {
      tabindex: "0",
      role: "img",
      "aria-label": `Map of ${many(this.points.length, "sample")}; near ones are alike`,
    });
    this.tip = h("div", { class: "tip", hidden: true });
    this.told = h("span", { class: "shown" }, "no sample");
    this.buttons = decisionButtons((word) => this.decide(word));
    this.lassoing = h(
      "button",
      { class: "plain", "aria-pressed": "false", onclick: () => this.#pick() },
      "Lasso",
    );
    const zoom = (label_, factor) =>
      h(
        "button",
        {
          class: "plain",
          "aria-label": factor > 1 ? "Zoom in" : "Zoom out",
          onclick: () => this.zoomBy(factor),
        },
        label_,
      );
    const show = h(
      "button",
      { class: "plain", onclick: () => this.chosen.length && showSamples(this.#samples()) },
      "Show them",
    );
    this.element = h(
      "div",
      { class: "map" },
      h(
        "div",
        { class: "answers" },
        this.lassoing,
        zoom("+", 1.6),
        zoom("−", 1 / 1.6),
        h("button", { class: "plain", onclick: () => this.whole() }, "Whole map"),
        h("span", {}, this.told, " in the lasso"),
        this.buttons,
        show,
        legend(),
      ),
      h("div", { class: "sheet-of" }, this.canvas, this.tip),
    );
    this.painter = new MapPainter(this.canvas, this.points, decisions, source);
    this.render = eachFrame(() => this.paint());
    this.painter.onPicture = this.render;
    new ResizeObserver(this.render).observe(this.canvas);
    this.#listen();
  }

  /** Draw at once; the time it took is the measure of bench/page.py. */
  paint() {
    this.painter.paint(this.view, this.lasso, this.chosen);
  }

  update() {
    this.painter.recolour();
    this.render();
  }

  whole() {
    this.view = { x: 0.5, y: 0.5, zoom: 1 };
    this.render();
  }

  /** Zoom about a place of the canvas, its middle by default. */
  zoomBy(factor, at = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    const [x, y] = this.painter.place(this.view, at);
    const zoom = Math.max(0.8, Math.min(DEEPEST, this.view.zoom * factor));
    const share = this.view.zoom / zoom;
    this.view = { x: x + (this.view.x - x) * share, y: y + (this.view.y - y) * share, zoom };
    this.render();
  }

  decide(word) {
    this.decisions.decide(this.#samples(), word);
  }

  #samples() {
    return this.chosen.map((point) => this.points.sample(point));
  }

  #pick() {
    const on = this.lassoing.getAttribute("aria-pressed") !== "true";
    this.lassoing.setAttribute("aria-pressed", on);
    this.canvas.classList.toggle("lassoing", on);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY / 400), [event.offsetX, event.offsetY]);
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => (this.drag ? this.#move(event) : this.#hover(event)));
    canvas.addEventListener("pointerup", () => this.#end());
    canvas.addEventListener("pointercancel", () => this.#end());
    canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
  }

  #begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    const lasso = event.shiftKey || this.lassoing.getAttribute("aria-pressed") === "true";
    this.drag = { lasso, x: event.offsetX, y: event.offsetY };
    if (lasso) this.lasso = [this.painter.place(this.view, [event.offsetX, event.offsetY])];
    this.tip.hidden = true;
  }

  #move(event) {
    const { drag } = this;
    if (drag.lasso) this.lasso.push(this.painter.place(this.view, [event.offsetX, event.offsetY]));
    else {
      const size = this.painter.size(this.view);
      this.view = {
        ...this.view,
        x: this.view.x - (event.offsetX - drag.x) / size,
        y: this.view.y - (event.offsetY - drag.y) / size,
      };
      Object.assign(drag, { x: event.offsetX, y: event.offsetY });
    }
    this.render();
  }

  #end() {
    if (this.drag?.lasso) {
      this.chosen = this.lasso.length > 2 ? this.points.inside(this.lasso) : [];
      this.told.textContent = this.chosen.length ? many(this.chosen.length, "sample") : "no sample";
    }
    this.drag = null;
    this.render();
  }

  #hover(event) {
    const [x, y] = this.painter.place(this.view, [event.offsetX, event.offsetY]);
    const point = this.points.nearest(x, y, REACH / this.painter.size(this.view));
    this.tip.hidden = point < 0;
    if (point < 0 || point === this.tip.point) return;
    this.tip.point = point;
    const sample = this.points.sample(point);
    const score =
      sample.score === null ? null : h("p", {}, h("b", {}, number(sample.score)), ` ${this.label}`);
    this.tip.replaceChildren(
      framed(this.source, sample, false),
      h("p", {}, captionOf(sample, 90)),
      ...(score ? [score] : []),
      h("p", {}, h("code", {}, plain(sample.shard, 40), " / ", visible(sample.key, 40))),
    );
    this.tip.style.left = `${Math.min(event.offsetX + 16, this.canvas.clientWidth - 200)}px`;
    this.tip.style.top = `${Math.min(event.offsetY + 16, Math.max(0, this.canvas.clientHeight - 240))}px`;
  }
}

function legend() {
  const entries = { suspect: "suspect", grouped: "in a group", dropped: "will be dropped", kept: "keep" };
  return h(
    "span",
    { class: "legend" },
    Object.entries(entries).map(([name, words]) => h("span", {}, h("i", { class: name }), words)),
  );
}
