/** Draws the points of the map into the pixels of a canvas, and pictures where few are in view. */

const PICTURES = 70; // of points in view, up to which they are drawn
const SIDE = 46; // of a picture, in pixels
const [OTHER, SUSPECT, GROUPED, KEPT, DROPPED] = [0, 1, 2, 3, 4]; // later ones are drawn over earlier ones
const COLOURS = ["--dot", "--mark", "--unsure", "--keep", "--drop"];

export class MapPainter {
  constructor(canvas, points, decisions, source) {
    Object.assign(this, { canvas, points, decisions, source });
    this.context = canvas.getContext("2d");
    this.images = new Map();
    this.onPicture = () => {};
    this.known = [...points.number.keys()].filter((point) => points.number[point] >= 0);
    this.recolour();
  }

  /** The kind of every point anew. Points that the review does not know are plain, unless decided on. */
  recolour() {
    const { points, decisions } = this;
    this.kind = new Uint8Array(points.length);
    for (const point of this.known) this.kind[point] = kindOf(points.sample(point), decisions);
    if (decisions.words.size) {
      for (let point = 0; point < points.length; point += 1) {
        if (points.number[point] < 0 && this.#isDecided(point))
          this.kind[point] = kindOf(points.sample(point), decisions);
      }
    }
    this.order = [OTHER, SUSPECT, GROUPED, KEPT, DROPPED].map((kind) => {
      const found = [];
      for (let point = 0; point < points.length; point += 1) if (this.kind[point] === kind) found.push(point);
      return Int32Array.from(found);
    });
  }

  /** Pixels of the canvas to the whole map. */
  size(view) {
    return Math.min(this.canvas.clientWidth, this.canvas.clientHeight) * view.zoom;
  }

  /** The place on the map of a place on the canvas. */
  place(view, [x, y]) {
    const size = this.size(view);
    return [
      view.x + (x - this.canvas.clientWidth / 2) / size,
      view.y + (y - this.canvas.clientHeight / 2) / size,
    ];
  }

  paint(view, lasso, chosen) {
    const { canvas, context } = this;
    const ratio = Math.min(2, devicePixelRatio || 1);
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height || !this.pixels) {
      [canvas.width, canvas.height] = [width, height];
      this.pixels = context.createImageData(width, height);
      this.words = new Uint32Array(this.pixels.data.buffer);
    }
    this.words.fill(this.#colour("--wash"));
    const size = this.size(view) * ratio;
    const to = { size, left: width / 2 - view.x * size, top: height / 2 - view.y * size, width, height };
    const reach = 1 + Math.min(2, Math.max(0, Math.log2(view.zoom)) / 2); // points grow as there is room for them
    this.order.forEach((points, kind) =>
      this.#dots(points, this.#colour(COLOURS[kind]), kind === OTHER ? reach : 2 * reach, to, ratio),
    );
    this.#dots(chosen, this.#colour("--ink"), reach, to, ratio);
    context.putImageData(this.pixels, 0, 0);
    if (view.zoom > 4) this.#drawPictures(view, to, ratio);
    if (lasso) this.#drawLasso(lasso, to, ratio);
  }

  #dots(points, colour, reach, { size, left, top, width, height }, ratio) {
    const { words } = this;
    const [xs, ys] = [this.points.x, this.points.y];
    const half = Math.max(1, Math.round(reach * ratio * 0.75));
    for (let i = 0; i < points.length; i += 1) {
      const x = (left + xs[points[i]] * size) | 0;
      const y = (top + ys[points[i]] * size) | 0;
      if (x < half || y < half || x >= width - half || y >= height - half) continue;
      for (let row = y - half; row < y + half; row += 1) {
        const at = row * width + x;
        for (let column = -half; column < half; column += 1) words[at + column] = colour;
      }
    }
  }

  #drawPictures(view, to, ratio) {
    const [left, top] = this.place(view, [0, 0]);
    const [right, bottom] = this.place(view, [this.canvas.clientWidth, this.canvas.clientHeight]);
    const { x, y } = this.points;
    const seen = this.known.filter(
      (point) => x[point] > left && x[point] < right && y[point] > top && y[point] < bottom,
    );
    if (seen.length > PICTURES) return;
    const side = SIDE * ratio;
    for (const point of seen) {
      const image = this.#image(this.points.sample(point));
      if (!image?.naturalWidth) continue;
      const shrunk = side / Math.max(image.naturalWidth, image.naturalHeight);
      this.context.drawImage(
        image,
        to.left + x[point] * to.size + 3,
        to.top + y[point] * to.size + 3,
        image.naturalWidth * shrunk,
        image.naturalHeight * shrunk,
      );
    }
  }

  #image(sample) {
    if (!this.images.has(sample.name) && !document.body.classList.contains("blur")) {
      const { url } = this.source.picture(sample);
      const image = url ? new Image() : null;
      if (image) {
        image.onload = () => this.onPicture();
        image.src = url;
      }
      this.images.set(sample.name, image);
    }
    return this.images.get(sample.name);
  }

  #drawLasso(lasso, { size, left, top }, ratio) {
    const { context } = this;
    context.beginPath();
    for (const [x, y] of lasso) context.lineTo(left + x * size, top + y * size);
    context.closePath();
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = getComputedStyle(this.canvas).getPropertyValue("--ink");
    context.stroke();
  }

  #isDecided(point) {
    const { points, decisions } = this;
    const other = points.other[point];
    return decisions.words.has(`${points.shards[points.shardOf[other]]}\0${points.keys[other]}`);
  }

  /** A colour of the style sheet, #rrggbb, as a pixel. */
  #colour(name) {
    const text = getComputedStyle(this.canvas).getPropertyValue(name).trim().slice(1);
    const [red, green, blue] = [0, 2, 4].map((i) => parseInt(text.slice(i, i + 2), 16));
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }
}

function kindOf(sample, decisions) {
  const word = decisions.get(sample);
  if (word === "keep") return KEPT;
  if (decisions.dropped(sample)) return DROPPED;
  return sample.rank !== null && !sample.groups.length ? SUSPECT : sample.groups.length ? GROUPED : OTHER;
}
