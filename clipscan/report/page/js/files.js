/** Decisions as files: saved for `clipscan export --decisions`, read again, and merged with another's. */
import { ask, h, say } from "./dom.js";
import { dropTotal } from "./drop_total.js";
import { count, many, number, plain } from "./text.js";
import { nameOf } from "./samples.js";

/** The value of a file of decisions. */
export function fileOf(run, decisions) {
  return {
    clipscan: "decisions",
    version: 1,
    run: run.id,
    path: run.path,
    border: decisions.border === null ? null : { threshold: decisions.border },
    decisions: [...decisions.words].map(([name, decision]) => {
      const [shard, key] = name.split("\0");
      return { shard, key, decision };
    }),
  };
}

/** A table of what was decided, drop and keep, for spreadsheets. They would compute what begins like a formula:
 * an apostrophe is put before it, which clipscan export takes off. */
export function tableOf(decisions) {
  const cell = (text) => {
    const inert = /^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r;\t]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
  };
  const rows = [...decisions.words]
    .filter(([, word]) => word !== "unsure")
    .map(([name, word]) => [...name.split("\0").map(cell), word].join(","));
  return ["shard,key,decision", ...rows].join("\n") + "\n";
}

/** Offer a text as a file. */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** [name, word] pairs and border of a file's text; throws an Error in words. */
export function readFile(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("it is no JSON; take a file that this page has saved");
  }
  if (found?.clipscan !== "decisions" || !Array.isArray(found.decisions))
    throw new Error("it is no file of decisions");
  if (found.version !== 1)
    throw new Error(`its version is ${plain(String(found.version), 20)}; this page reads version 1`);
  const pairs = found.decisions.map((one, i) => {
    const fits = isName(one?.shard) && isName(one.key) && ["drop", "keep", "unsure"].includes(one.decision);
    if (!fits) throw new Error(`decision ${i + 1} is not of shard, key and drop, keep or unsure`);
    return [nameOf(one.shard, one.key), one.decision];
  });
  const border = found.border == null ? null : found.border.threshold;
  if (border !== null && !Number.isFinite(border)) throw new Error("its border is no finite number");
  return { pairs, border, run: found.run };
}

/** Text without NUL, which parts shard and key here, and without half a surrogate pair. */
function isName(value) {
  return typeof value === "string" && !value.includes("\0") && (value.isWellFormed?.() ?? true);
}

/** Read another file into the decisions; where both decide and differ, and before its border is taken, the
 * reviewer is asked. */
export async function mergeFile(text, review) {
  const { decisions } = review;
  let found;
  try {
    found = readFile(text);
  } catch (wrong) {
    await ask("This file cannot be read", h("p", {}, wrong.message), { ok: "OK" });
    return;
  }
  if (found.run !== review.data.run.id) {
    const go = await ask(
      "Decisions about another scan",
      h("p", {}, "This file was saved from another scan. Decisions are matched by shard and key."),
      { yes: "Take them all the same", "": "Cancel" },
    );
    if (go !== "yes") return;
  }
  const conflicts = found.pairs.filter(
    ([name, word]) => decisions.words.has(name) && decisions.words.get(name) !== word,
  );
  const by = conflicts.length ? await settle(conflicts, decisions) : "theirs";
  if (!by) return;
  const disputed = new Set(conflicts.map(([name]) => name));
  const resolved = found.pairs.map(([name, word]) => [
    name,
    disputed.has(name) ? { theirs: word, mine: decisions.words.get(name), unsure: "unsure" }[by] : word,
  ]);
  const changed = decisions.take(resolved);
  const moved = await takeBorder(found.border, review);
  say(`${many(changed, "decision")}${moved ? " and the border" : ""} taken from the file`);
}

/** Ask whether the border of a file is to be set, with what it drops. Whether it was. */
async function takeBorder(border, review) {
  const { decisions } = review;
  if (border === null || border === decisions.border) return false;
  if (!review.border) {
    const why = "This page has no scores to show it on. clipscan export --decisions takes it from the file.";
    await ask("The border of the file is not taken", h("p", {}, why), { ok: "OK" });
    return false;
  }
  const told = (threshold) => {
    const { count: dropped, exact } = dropTotal(review, threshold);
    return `${exact ? "" : "about "}${many(dropped, "sample")}`;
  };
  const now = decisions.border === null ? "the drop list as it is" : `the border ${number(decisions.border)}`;
  const answer = await ask(
    "Take the border of the file?",
    h(
      "p",
      {},
      `Now ${told(decisions.border)} will be dropped, by ${now} and your decisions. `,
      `With the border ${number(border)} of the file it would be ${told(border)}.`,
    ),
    { take: "Take the border", "": "Leave it as it is" },
  );
  if (answer !== "take") return false;
  decisions.moveBorder(border);
  return true;
}

async function settle(conflicts, decisions) {
  const lines = conflicts
    .slice(0, 12)
    .map(([name, word]) =>
      h(
        "li",
        {},
        h("code", {}, plain(name.replace("\0", "/"), 80)),
        ` here ${decisions.words.get(name)}, in the file ${word}`,
      ),
    );
  const more =
    conflicts.length > lines.length
      ? h("p", { class: "muted" }, `and ${count(conflicts.length - lines.length)} more`)
      : null;
  const about = h("div", {}, h("ul", { class: "conflicts" }, lines), more);
  const heading = `${many(conflicts.length, "decision")} ${conflicts.length === 1 ? "differs" : "differ"}`;
  return ask(heading, about, {
    mine: "Keep mine",
    theirs: "Take theirs",
    unsure: "Mark unsure",
    "": "Cancel",
  });
}
