/** The suspects as a grid of which only what is in view exists, however many there are. */
import { eachFrame, h } from "./dom.js";
import { fillFrame } from "./pictures.js";
import { number, visible } from "./text.js";

const NARROWEST = 150; // of a tile, in pixels; it is as wide as the columns allow
const BELOW = 58; // pixels of text below the picture
const GAP = 10;
const SPARE_ROWS = 2; // above and below what is in view
const TALLEST = 8e6; // pixels; browsers cannot scroll further than about twice that

/** onFocus(place) when a sample is chosen by mouse or touch, onOpen(place) by a double click. */
export class Gallery {
  constructor({ source, decisions, onFocus }) {
    this.source = source;
    this.decisions = decisions;
    this.list = { length: 0, at: () => null, load: async () => {} };
    this.focused = -1;
    this.tiles = new Map(); // by place
    this.spare = [];
    this.space = h("div", { class: "space", role: "presentation" });
    this.element = h(
      "div",
      { class: "gallery", role: "listbox", tabindex: "0", "aria-label": "Suspects" },
      this.space,
    );
    this.render = eachFrame(() => this.#render());
    this.element.addEventListener("scroll", this.render, { passive: true });
    this.element.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) onFocus(Number(tile.dataset.place));
    });
    new ResizeObserver(this.render).observe(this.element);
  }

  setList(list) {
    this.list = list;
    this.focused = -1;
    for (const place of [...this.tiles.keys()]) this.#release(place);
    this.element.scrollTop = 0;
    this.render();
  }

  /** Mark a place and bring it into view. */
  focus(place) {
    const before = this.focused;
    this.focused = place;
    for (const one of [before, place]) if (this.tiles.has(one)) this.#mark(one);
    this.#reveal(place);
    this.element.setAttribute("aria-activedescendant", `tile-${place}`);
  }

  /** Show decisions anew. */
  update() {
    for (const place of this.tiles.keys()) this.#mark(place);
  }

  /** How many tiles stand side by side. */
  columns() {
    return this.#grid().columns;
  }

  #grid() {
    const width = this.element.clientWidth - GAP;
    const columns = Math.max(1, Math.floor(width / (NARROWEST + GAP)));
    const side = Math.floor(width / columns) - GAP;
    const height = side + BELOW + GAP;
    const tall = Math.ceil(this.list.length / columns) * height + GAP;
    return { columns, side, height, tall, scale: Math.max(1, tall / TALLEST) };
  }

  #reveal(place) {
    const { columns, height, scale } = this.#grid();
    const top = Math.floor(place / columns) * height;
    const view = this.element.clientHeight;
    const from = this.element.scrollTop * scale;
    if (top < from) this.element.scrollTop = top / scale;
    else if (top + height + GAP > from + view) this.element.scrollTop = (top + height + GAP - view) / scale;
  }

  #render() {
    if (!this.element.clientWidth) return;
    const grid = this.#grid();
    this.space.style.height = `${Math.min(grid.tall, TALLEST)}px`;
    const from = this.element.scrollTop * grid.scale;
    const first = Math.max(0, Math.floor(from / grid.height) - SPARE_ROWS) * grid.columns;
    const rows = Math.ceil(this.element.clientHeight / grid.height) + 2 * SPARE_ROWS + 1;
    const last = Math.min(this.list.length, first + rows * grid.columns);
    for (const place of [...this.tiles.keys()]) if (place < first || place >= last) this.#release(place);
    let missing = false;
    for (let place = first; place < last; place += 1) {
      missing = !this.#show(place, grid, this.element.scrollTop - from) || missing;
    }
    if (missing) this.list.load(first, last).then(this.render, () => {});
  }

  /** Put the tile of a place where it belongs. False where its sample is not loaded. */
  #show(place, grid, shift) {
    const sample = this.list.at(place);
    if (!sample) return false;
    let tile = this.tiles.get(place);
    if (!tile) {
      tile = this.spare.pop() ?? newTile();
      this.tiles.set(place, tile);
      this.#fill(tile, place, sample);
    }
    const x = GAP + (place % grid.columns) * (grid.side + GAP);
    const y = GAP + Math.floor(place / grid.columns) * grid.height + shift;
    tile.style.transform = `translate(${x}px, ${y}px)`;
    tile.style.width = `${grid.side}px`;
    tile.style.height = `${grid.side + BELOW}px`;
    tile.firstChild.style.height = `${grid.side}px`;
    return true;
  }

  #fill(tile, place, sample) {
    const [frame, line, words] = tile.children;
    tile.id = `tile-${place}`;
    tile.dataset.place = place;
    tile.setAttribute("aria-setsize", this.list.length);
    tile.setAttribute("aria-posinset", place + 1);
    fillFrame(frame, this.source, sample, false);
    line.replaceChildren(h("b", {}, sample.rank ?? "–"), h("span", {}, number(sample.score)));
    words.replaceChildren(...(sample.caption ? visible(sample.caption, 90) : ["no caption"]));
    if (!tile.isConnected) this.space.append(tile);
    this.#mark(place);
  }

  #mark(place) {
    const tile = this.tiles.get(place);
    const sample = this.list.at(place);
    const word = this.decisions.get(sample);
    tile.dataset.decision = word || (this.decisions.dropped(sample) ? "listed" : "");
    tile.setAttribute("aria-selected", place === this.focused);
  }

  #release(place) {
    const tile = this.tiles.get(place);
    this.tiles.delete(place);
    if (this.spare.length < 100) {
      tile.style.transform = "translate(0, -9999px)";
      this.spare.push(tile);
    } else tile.remove();
  }
}

function newTile() {
  return h(
    "div",
    { class: "tile", role: "option" },
    h("span", { class: "frame" }),
    h("p", { class: "line" }),
    h("p", { class: "words", dir: "auto" }),
  );
}
