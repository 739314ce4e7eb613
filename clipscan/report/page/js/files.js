/** Decisions as files: saved for `clipscan export --decisions`, read again, and merged with another's. */
import { ask, h, say } from "./dom.js";
import { count, many, plain } from "./text.js";
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

/** A table of what was decided, drop and keep, for spreadsheets. */
export function tableOf(decisions) {
  const cell = (text) => (/[",\n\r;\t]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
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
  const pairs = found.decisions.map(({ shard, key, decision }, i) => {
    const fits =
      typeof shard === "string" && typeof key === "string" && ["drop", "keep", "unsure"].includes(decision);
    if (!fits) throw new Error(`decision ${i + 1} is not of shard, key and drop, keep or unsure`);
    return [nameOf(shard, key), decision];
  });
  const border = typeof found.border?.threshold === "number" ? found.border.threshold : null;
  return { pairs, border, run: found.run };
}

/** Read another file into the decisions; where both decide and differ, the reviewer is asked. */
export async function mergeFile(text, run, decisions) {
  let found;
  try {
    found = readFile(text);
  } catch (wrong) {
    await ask("This file cannot be read", h("p", {}, wrong.message), { ok: "OK" });
    return;
  }
  if (found.run !== run.id) {
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
  if (decisions.border === null && found.border !== null) decisions.moveBorder(found.border);
  say(`${many(changed, "decision")} taken from the file`);
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
