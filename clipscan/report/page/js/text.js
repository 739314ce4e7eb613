/** Strangers' text made safe to look at, as clipscan/report/visible_text.py does it; and numbers in words. */
import { h } from "./dom.js";

const NAMES = { "\n": "↵", "\r": "␍", "\t": "⇥", "\0": "␀", "\x1b": "␛" };
const BLANKS = new Set([0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0]);
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/u;
const MARK = /[\p{Mn}\p{Me}]/u;
const MARKS_IN_A_ROW = 3;
const SIMPLE = /^[ -~]*$/;

/** Whether the character does something without being seen. */
export function isHidden(char) {
  if (char >= " " && char <= "~") return false;
  const code = char.codePointAt(0);
  const variation = (code >= 0xfe00 && code <= 0xfe0d) || (code >= 0xe0100 && code <= 0xe01ef);
  return variation || BLANKS.has(code) || HIDDEN.test(char);
}

/** At most `limit` characters, the last an ellipsis where text was cut. */
export function shorten(text, limit) {
  if (text.length <= limit) return text;
  const chars = Array.from(text.slice(0, 2 * limit));
  return chars.length <= limit
    ? text
    : chars
        .slice(0, limit - 1)
        .join("")
        .trimEnd() + "…";
}

/** [character, ""] for what can be seen, [character, its name] for what cannot; repeats counted. */
function* namedChars(text) {
  const chars = Array.from(text);
  let marks = 0;
  for (let i = 0; i < chars.length;) {
    const char = chars[i];
    let times = 1;
    while (chars[i + times] === char) times += 1;
    marks = MARK.test(char) ? marks + times : 0;
    if (isHidden(char) || marks > MARKS_IN_A_ROW) {
      const code = char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      yield [char, (NAMES[char] || `U+${code}`) + (times > 1 ? ` × ${times}` : "")];
    } else yield [char.repeat(times), ""];
    i += times;
  }
}

/** Nodes of `text`, cut to `limit` characters; hidden characters as a boxed name, U+202E. */
export function visible(text, limit = 240) {
  const short = shorten(text, limit);
  if (SIMPLE.test(short)) return [short];
  const nodes = [];
  for (const [char, name] of namedChars(short)) {
    if (name) nodes.push(h("span", { class: "hidden" }, name));
    else if (typeof nodes.at(-1) === "string") nodes[nodes.length - 1] += char;
    else nodes.push(char);
  }
  return nodes;
}

/** The same for attributes: hidden characters as [U+202E]. */
export function plain(text, limit = 2000) {
  const short = shorten(text, limit);
  if (SIMPLE.test(short)) return short;
  return Array.from(namedChars(short), ([char, name]) => (name ? `[${name}]` : char)).join("");
}

/** A caption, isolated from the direction of what stands around it. */
export function captionOf(sample, limit) {
  if (!sample.caption) return h("span", { class: "muted" }, "no caption");
  return h("bdi", { dir: "auto" }, visible(sample.caption, limit));
}

/** 12345 -> "12,345". */
export function count(value) {
  return value.toLocaleString("en-US");
}

/** "1 sample", "2 samples". */
export function many(value, what) {
  return `${count(value)} ${what}${value === 1 ? "" : "s"}`;
}

/** A score in four significant digits; exponents only far from 1. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e4 && size < 1e6) return count(Math.round(value));
  return value === 0 || (size >= 1e-3 && size < 1e4) ? value.toPrecision(4) : value.toExponential(2);
}

/** A share: "0.50 %", "12 %". */
export function percent(part, whole) {
  if (!whole) return "–";
  const share = (100 * part) / whole;
  return share >= 10 || share === 0 ? `${share.toFixed(0)} %` : `${Number(share.toPrecision(2))} %`;
}
