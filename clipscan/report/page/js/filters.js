/** The filter of the suspects: its bar, and which samples pass. */
import { eachFrame, h } from "./dom.js";
import { plain } from "./text.js";

export const EVERYTHING = {
  text: "",
  group: null,
  verdict: "",
  shard: "",
  domain: "",
  low: null,
  high: null,
  state: "",
};

const VERDICTS = {
  "": "any verdict",
  convicted: "convicted",
  alike: "captions alike",
  copies: "near-copies",
  none: "in no group",
};
const STATES = {
  "": "decided or not",
  undecided: "undecided",
  drop: "drop",
  keep: "keep",
  unsure: "unsure",
  dropped: "will be dropped",
};

/** Which samples a filter shows, as a function. Membership of a group is the source's part. */
export function passing(filter, decisions) {
  const text = filter.text.trim().toLowerCase();
  return (sample) =>
    (!text || sample.caption.toLowerCase().includes(text) || sample.key.toLowerCase().includes(text)) &&
    (!filter.verdict || hasVerdict(sample, filter.verdict)) &&
    (!filter.shard || sample.shard === filter.shard) &&
    (!filter.domain || sample.domain === filter.domain) &&
    (filter.low === null || (sample.score !== null && sample.score >= filter.low)) &&
    (filter.high === null || (sample.score !== null && sample.score <= filter.high)) &&
    (!filter.state || hasState(sample, filter.state, decisions));
}

function hasVerdict(sample, verdict) {
  return verdict === "none" ? !sample.groups.length : sample.groups.some((group) => group.kind === verdict);
}

function hasState(sample, state, decisions) {
  if (state === "undecided") return !decisions.get(sample);
  return state === "dropped" ? decisions.dropped(sample) : decisions.get(sample) === state;
}

/** The bar. onChange(filter) after every change; `set` shows another filter, `find` puts the cursor there. */
export function filterBar({ groups, options, label, all, onChange }) {
  let filter = { ...EVERYTHING };
  const later = eachFrame(() => onChange({ ...filter }));
  const change = (name, value) => {
    filter = { ...filter, [name]: value };
    later();
  };
  const fields = fieldsOf({ groups, options, label, all, change });
  const reset = h("button", { class: "plain", onclick: () => set(EVERYTHING) }, "Clear filter");
  const element = h(
    "div",
    { class: "filter", role: "search", "aria-label": "Filter" },
    Object.values(fields),
    reset,
  );

  function set(other, told = true) {
    filter = { ...EVERYTHING, ...other };
    for (const [name, field] of Object.entries(fields)) field.value = filter[name] ?? "";
    if (told) later();
  }
  const find = () => fields.text.select();
  return { element, set, find, get: () => filter };
}

function fieldsOf({ groups, options, label, all, change }) {
  const numeric = (value) => (value === "" || Number.isNaN(Number(value)) ? null : Number(value));
  const bound = (name, words) =>
    h("input", {
      type: "number",
      step: "any",
      placeholder: words,
      "aria-label": `${label}: ${words}`,
      oninput: (event) => change(name, numeric(event.target.value)),
    });
  const choice = (name, about, entries, read = (value) => value) =>
    h(
      "select",
      { "aria-label": about, onchange: (event) => change(name, read(event.target.value)) },
      entries.map(([value, words]) => h("option", { value }, words)),
    );
  const named = (list, all) => [["", all], ...list.map((one) => [one, plain(one, 60)])];
  const members = groups.map((group) => [
    group.number,
    `group ${group.number}: ${plain(group.captions[0]?.[0] ?? group.verdict, 40)}`,
  ]);
  return {
    text: h("input", {
      type: "search",
      placeholder: "caption or key",
      "aria-label": "Caption or key (/)",
      oninput: (event) => change("text", event.target.value),
    }),
    group: choice("group", "Group", [["", all], ...members], numeric),
    verdict: choice("verdict", "Verdict", Object.entries(VERDICTS)),
    state: choice("state", "Decision", Object.entries(STATES)),
    shard: choice("shard", "Shard", named(options.shards, "any shard")),
    domain: choice("domain", "Domain", named(options.domains, "any domain")),
    low: bound("low", "score from"),
    high: bound("high", "score to"),
  };
}
