/** What the reviewer has decided: drop, keep or unsure by sample; undo without end; one border. */

export const WORDS = ["drop", "keep", "unsure"];

/** Decisions by the name of the sample. Every change is one step that can be undone. */
export class Decisions {
  /** storage: {load() -> state or null, save(state)}. */
  constructor(storage) {
    const state = storage.load() ?? {};
    this.storage = storage;
    this.words = new Map(state.decisions ?? []);
    this.steps = state.steps ?? [];
    this.border = state.border ?? null; // a threshold; null: the drop list as it is
    this.counts = { drop: 0, keep: 0, unsure: 0 };
    for (const word of this.words.values()) this.counts[word] += 1;
    this.listeners = [];
  }

  get(sample) {
    return this.words.get(sample.name) ?? "";
  }

  /** Whether the sample is dropped when nothing more is decided. */
  dropped(sample) {
    const word = this.get(sample);
    return word === "drop" || (word !== "keep" && this.inBase(sample));
  }

  /** Whether the border, or else the drop list, takes it. */
  inBase(sample, border = this.border) {
    return border === null ? sample.listed : sample.score !== null && sample.score > border;
  }

  /** Decide on samples; "" takes a decision back. Returns how many changed. */
  decide(samples, word) {
    const changed = samples.filter((sample) => !sample.locked && this.get(sample) !== word);
    if (changed.length) {
      this.#step({ words: changed.map((sample) => [sample.name, this.get(sample)]) });
      for (const sample of changed) this.#set(sample.name, word);
      this.#tell();
    }
    return changed.length;
  }

  /** Several [name, word] at once, as of an imported file. */
  take(pairs) {
    const changed = pairs.filter(([name, word]) => (this.words.get(name) ?? "") !== word);
    if (changed.length) {
      this.#step({ words: changed.map(([name]) => [name, this.words.get(name) ?? ""]) });
      for (const [name, word] of changed) this.#set(name, word);
      this.#tell();
    }
    return changed.length;
  }

  /** Move the border; null: back to the drop list. Movements in a row are one step. */
  moveBorder(threshold, begins = true) {
    if (threshold === this.border) return;
    if (begins || this.steps.at(-1)?.border === undefined) this.#step({ border: this.border });
    this.border = threshold;
    this.#tell();
  }

  /** Take the last step back. False where there is none. */
  undo() {
    const step = this.steps.pop();
    if (!step) return false;
    if (step.border !== undefined) this.border = step.border;
    for (const [name, before] of step.words ?? []) this.#set(name, before);
    this.#tell();
    return step;
  }

  /** Call with no argument after every change. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  state() {
    return { decisions: [...this.words], border: this.border, steps: this.steps };
  }

  #set(name, word) {
    const before = this.words.get(name);
    if (before) this.counts[before] -= 1;
    if (word) {
      this.words.set(name, word);
      this.counts[word] += 1;
    } else this.words.delete(name);
  }

  #step(step) {
    this.steps.push(step);
  }

  #tell() {
    this.storage.save(() => this.state());
    for (const listener of this.listeners) listener();
  }
}
