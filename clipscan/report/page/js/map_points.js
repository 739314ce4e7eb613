/** The points of the map: where they are, which samples they are, and finding them by place. */
import { nameOf } from "./samples.js";

const CELLS = 256; // of the grid, a side
const FULL = 65535; // positions are 0 to this

/** x, y: Float32Array [n] in 0..1. */
export class MapPoints {
  constructor(data, source) {
    this.source = source;
    this.x = unpacked(data.map.x);
    this.y = unpacked(data.map.y);
    this.length = this.x.length;
    this.number = data.map.sample;
    this.#name(data.map);
    this.#sort();
  }

  /** The sample of a point; made when first asked for, as most are never looked at. */
  sample(point) {
    const { source } = this;
    if (this.number[point] >= 0) return source.samples[this.number[point]];
    const other = this.other[point];
    const [shard, key] = [this.shards[this.shardOf[other]], this.keys[other]];
    const name = nameOf(shard, key);
    if (!source.byName.has(name)) {
      const blank = { number: null, caption: "", score: null, at: -1, rank: null, locked: false, groups: [] };
      source.byName.set(name, { ...blank, shard, key, name, listed: this.listed.has(other) });
    }
    return source.byName.get(name);
  }

  /** Points within `reach` of a place, by the grid. */
  *near(x, y, reach) {
    const [left, right] = [cellOf(x - reach), cellOf(x + reach)];
    for (let row = cellOf(y - reach); row <= cellOf(y + reach); row += 1) {
      for (let i = this.starts[row * CELLS + left]; i < this.starts[row * CELLS + right + 1]; i += 1)
        yield this.sorted[i];
    }
  }

  /** The nearest point within `reach`, -1 for none. */
  nearest(x, y, reach) {
    let [best, least] = [-1, reach * reach];
    for (const point of this.near(x, y, reach)) {
      const square = (this.x[point] - x) ** 2 + (this.y[point] - y) ** 2;
      if (square <= least) [best, least] = [point, square];
    }
    return best;
  }

  /** Points inside a polygon, a list of [x, y]. */
  inside(polygon) {
    const found = [];
    const [xs, ys] = [0, 1].map((axis) => polygon.map((corner) => corner[axis]));
    const box = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    for (let i = 0; i < this.length; i += 1) {
      const [x, y] = [this.x[i], this.y[i]];
      if (x >= box[0] && x <= box[1] && y >= box[2] && y <= box[3] && within(polygon, x, y)) found.push(i);
    }
    return found;
  }

  #name({ sample, shard, key, shards, listed }) {
    Object.assign(this, { shards, shardOf: shard, keys: key, listed: new Set(listed) });
    this.other = new Int32Array(this.length).fill(-1);
    let next = 0;
    sample.forEach((number, point) => {
      if (number < 0) this.other[point] = next++;
    });
  }

  /** A counting sort by cell. */
  #sort() {
    const cells = new Int32Array(this.length);
    this.starts = new Int32Array(CELLS * CELLS + 1);
    for (let i = 0; i < this.length; i += 1) {
      cells[i] = cellOf(this.y[i]) * CELLS + cellOf(this.x[i]);
      this.starts[cells[i] + 1] += 1;
    }
    for (let i = 0; i < CELLS * CELLS; i += 1) this.starts[i + 1] += this.starts[i];
    const next = this.starts.slice();
    this.sorted = new Int32Array(this.length);
    for (let i = 0; i < this.length; i += 1) this.sorted[next[cells[i]]++] = i;
  }
}

function cellOf(value) {
  return Math.max(0, Math.min(CELLS - 1, Math.floor(value * CELLS)));
}

function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const values = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => values.getUint16(2 * i, true) / FULL);
}

/** Whether a place is inside, by the parity of the edges to its right. */
function within(polygon, x, y) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [[ax, ay], [bx, by]] = [polygon[i], polygon[j]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
