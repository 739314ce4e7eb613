/** The page of `clipscan serve`: all rows by pages, pictures and neighbours when asked for, decisions saved. */
import { settled } from "./dom.js";
import { fileOf } from "./files.js";
import { PageSource, listOf, nameOf } from "./samples.js";
import { checkedState } from "./storage.js";

const ROWS = 100; // of one request
const MOST = 20000; // rows that are decided on at once
const KEPT_STEPS = 50000; // samples that saved steps of undo change, at most; older steps are not saved

const token = new URLSearchParams(location.search).get("token") ?? "";

/** Ask the server; throws in words where it refuses. */
async function request(place, given = {}, options = {}) {
  const url = `${place}?${new URLSearchParams(given)}`;
  const answer = await fetch(url, { ...options, headers: { ...options.headers, "X-Clipscan-Token": token } });
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), { status: answer.status });
  return answer.json();
}

/** Samples come from the server as they are looked at; groups are in the page. */
export class ServedSource extends PageSource {
  constructor(data) {
    super(data);
    this.total = data.served.total;
  }

  options() {
    return this.data.served;
  }

  async select(filter, passes) {
    if (filter.group !== null) return super.select(filter, passes);
    await this.beforeSelect?.(); // what is decided must have arrived
    const { group, ...given } = filter;
    const asked = Object.fromEntries(
      Object.entries(given).filter(([, value]) => value !== null && value !== ""),
    );
    const first = await request("/api/rows", { ...asked, start: 0, count: ROWS });
    if (!first.total) return listOf([]);
    return new ServedList(this, asked, first);
  }

  async neighbours(sample) {
    if (sample.near) return sample.near;
    try {
      const found = await request("/api/near", { shard: sample.shard, key: sample.key });
      sample.near = found.map(([row, distance]) => [this.intern(row), distance]);
      return sample.near;
    } catch (wrong) {
      return wrong.message;
    }
  }

  picture(sample) {
    if (this.data.noPictures) return { reason: this.data.noPictures };
    const { shard, key, at } = sample;
    return { url: `/picture?${new URLSearchParams({ token, shard, key, at: at ?? -1, side: 160 })}` };
  }

  /** The sample of a row, the same object each time. */
  intern(row) {
    const name = nameOf(row.shard, row.key);
    const known = this.byName.get(name);
    if (known) return Object.assign(known, { rank: row.rank, score: row.score, listed: row.listed });
    const sample = { ...row, name, number: null, locked: false, groups: [] };
    this.byName.set(name, sample);
    return sample;
  }
}

/** The rows that a filter lets through, loaded by pages. */
class ServedList {
  constructor(source, asked, first) {
    Object.assign(this, { source, asked, length: first.total });
    this.pages = new Map([[0, Promise.resolve()]]);
    this.rows = new Map();
    this.#keep(0, first.rows);
  }

  at(place) {
    return this.rows.get(place) ?? null;
  }

  async load(start, stop) {
    if (stop - start > MOST) throw new Error(`at most ${MOST} samples at once: narrow the filter`);
    const pages = [];
    for (let page = Math.floor(start / ROWS); page * ROWS < Math.min(stop, this.length); page += 1) {
      if (!this.pages.has(page)) this.pages.set(page, this.#fetch(page));
      pages.push(this.pages.get(page));
    }
    await Promise.all(pages);
  }

  async #fetch(page) {
    const { rows } = await request("/api/rows", { ...this.asked, start: page * ROWS, count: ROWS });
    this.#keep(page, rows);
  }

  #keep(page, rows) {
    rows.forEach((row, i) => this.rows.set(page * ROWS + i, this.source.intern(row)));
  }
}

/** The last steps that change `most` samples or fewer in all. */
function latest(steps, most) {
  let left = most;
  let first = steps.length;
  while (first > 0 && (left -= steps[first - 1].words?.length ?? 1) >= 0) first -= 1;
  return steps.slice(first);
}

/** Decisions are saved in the run folder, whole, a moment after each change. */
export class ServedStorage {
  constructor(data, warn) {
    Object.assign(this, { data, warn, revision: data.served.revision });
    this.write = settled(() => this.#write(), 250);
    this.sent = Promise.resolve();
    addEventListener("pagehide", () => this.write.now());
  }

  load() {
    const saved = this.data.served.decisions;
    if (!saved) return null;
    const decisions = saved.decisions.map(({ shard, key, decision }) => [nameOf(shard, key), decision]);
    return checkedState({ decisions, border: saved.border?.threshold ?? null, steps: saved.steps });
  }

  /** state: a function, called when it is time to write. */
  save(state) {
    this.state = state;
    this.write();
  }

  /** All that is decided has arrived. */
  async flush() {
    this.write.now();
    await this.sent;
  }

  #write() {
    const { decisions, border, steps: all } = this.state();
    const steps = latest(all, KEPT_STEPS);
    const value = { ...fileOf(this.data.run, { words: new Map(decisions), border }), steps };
    const body = JSON.stringify(value);
    this.sent = this.sent.then(() => this.#send(body));
  }

  async #send(body) {
    try {
      const headers = { "X-Revision": this.revision };
      const keepalive = body.length < 60000; // so that closing the window does not lose it
      ({ revision: this.revision } = await request(
        "/api/decisions",
        {},
        { method: "PUT", body, headers, keepalive },
      ));
    } catch (wrong) {
      this.warn(
        wrong.status === 409
          ? "Another window or server has saved decisions since. Nothing of this one is saved any more: reload it."
          : `Decisions are not saved: ${wrong.message}. Save them as a file.`,
      );
    }
  }
}
