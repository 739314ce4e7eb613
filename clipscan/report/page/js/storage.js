/** Where decisions are kept between visits: the browser's localStorage, or nowhere, with a warning. */
import { WORDS } from "./decisions.js";
import { settled } from "./dom.js";

/** warn(text) is called when decisions are not kept, or not all of them. */
export class BrowserStorage {
  constructor(run, warn) {
    this.key = `clipscan:${run}`;
    this.warn = warn;
    this.write = settled(() => this.#write(), 200);
    addEventListener("pagehide", () => this.write.now());
    document.addEventListener("visibilitychange", () => document.hidden && this.write.now());
  }

  load() {
    try {
      return checkedState(JSON.parse(localStorage.getItem(this.key)));
    } catch {
      this.#cannot();
      return null;
    }
  }

  /** state: a function, called when it is time to write. */
  save(state) {
    this.state = state;
    this.write();
  }

  #write() {
    const state = this.state();
    try {
      localStorage.setItem(this.key, JSON.stringify(state));
    } catch {
      this.#smaller(state);
    }
  }

  /** Without the steps that undo takes back, which grow without end. */
  #smaller(state) {
    try {
      localStorage.setItem(this.key, JSON.stringify({ ...state, steps: [] }));
    } catch {
      this.#cannot();
    }
  }

  #cannot() {
    this.warn(
      "This browser keeps nothing for this page. Your decisions are lost when it is closed: save them as a file.",
    );
  }
}

/** A state as it may be loaded: of the right shape, or null. */
export function checkedState(state) {
  const words = state?.decisions;
  if (!Array.isArray(words)) return null;
  const number = (value) => (Number.isFinite(value) ? value : null);
  const pairs = (listed, known) =>
    (Array.isArray(listed) ? listed : []).filter(
      (one) => Array.isArray(one) && typeof one[0] === "string" && known.includes(one[1]),
    );
  const steps = (Array.isArray(state.steps) ? state.steps : []).filter(
    (step) => step?.words || "border" in Object(step),
  );
  return {
    decisions: pairs(words, WORDS),
    border: number(state.border),
    steps: steps.map((step) =>
      step.words ? { words: pairs(step.words, [...WORDS, ""]) } : { border: number(step.border) },
    ),
  };
}
