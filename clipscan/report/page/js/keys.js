/** The keyboard: one key, one action, unless a field has the focus. */
import { ask, h } from "./dom.js";

export const KEYS = [
  ["j", "next", "next sample or group"],
  ["k", "previous", "the one before"],
  ["d", "drop", "drop, and on to the next undecided"],
  ["s", "keep", "keep, and on"],
  ["u", "unsure", "unsure, and on"],
  ["x", "clear", "take the decision back"],
  ["z", "undo", "undo, without end"],
  ["/", "find", "filter by caption or key"],
  ["g", "group", "the group of this sample; from groups to the suspects"],
  ["o", "open", "open the group; from samples back to the groups"],
  ["b", "best", "of near-copies keep the best"],
  ["n", "near", "neighbours on or off"],
  ["m", "map", "the map"],
  ["?", "help", "these keys"],
];
const ALSO = {
  ArrowRight: "next",
  ArrowLeft: "previous",
  ArrowDown: "down",
  ArrowUp: "up",
  Enter: "open",
  Escape: "leave",
};
const FIELDS = "input, select, textarea, dialog";

/** Call actions[name]() for each key pressed, and `acted` after it. */
export function listenToKeys(actions, acted) {
  const names = new Map([...KEYS.map(([key, name]) => [key, name]), ...Object.entries(ALSO)]);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inField = event.target.closest?.(FIELDS);
    if (inField) {
      if (event.key === "Escape" && event.target.matches("input, select")) event.target.blur();
      return;
    }
    if (event.key === "Enter" && event.target.closest?.("button, a, summary")) return;
    const name = names.get(event.key);
    if (!name || !actions[name]) return;
    if (actions[name]() === false) return;
    event.preventDefault();
    acted();
  });
}

export function showHelp(withMap) {
  const rows = KEYS.filter(([key]) => withMap || key !== "m").map(([key, , about]) =>
    h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, about)),
  );
  return ask("Keys", h("dl", { class: "keys" }, rows), { ok: "Close" });
}
