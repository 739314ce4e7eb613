/** The bar above the review: its views, how far it is, undo, and files. */
import { ask, copyText, h } from "./dom.js";
import { dropTotal } from "./drop_total.js";
import { download, fileOf, mergeFile, tableOf } from "./files.js";
import { showHelp } from "./keys.js";
import { count, many } from "./text.js";

const VIEWS = { groups: "Groups", suspects: "Suspects", map: "Map" };

export function toolbar(review) {
  const { decisions } = review;
  const tabs = Object.keys(review.panels).map((name) =>
    h(
      "button",
      { role: "tab", "data-tab": name, "aria-selected": "false", onclick: () => review.open(name) },
      VIEWS[name],
    ),
  );
  const told = h("p", { class: "progress", role: "status" });
  const file = h("input", {
    type: "file",
    accept: ".json,application/json",
    class: "offstage",
    "aria-label": "A file of decisions",
    tabindex: "-1",
  });
  file.addEventListener("change", async () => {
    const [chosen] = file.files;
    if (chosen) await mergeFile(await chosen.text(), review);
    file.value = "";
  });
  const button = (label, work, title = "") => h("button", { class: "plain", title, onclick: work }, label);
  const filter = h("button", { class: "plain narrow", onclick: () => review.showFilter() }, "Filter");
  const blur = review.data.blur
    ? button("Show or blur pictures", () => document.body.classList.toggle("blur"))
    : null;
  const undo = button("Undo", () => review.undo(), "z");
  const element = h(
    "div",
    { class: "tools" },
    h("div", { role: "tablist", "aria-label": "Views" }, tabs),
    told,
    h(
      "div",
      { class: "answers" },
      filter,
      blur,
      undo,
      button("Save", () => save(review)),
      button("Read", () => file.click(), "decisions of a file"),
      button("?", () => showHelp(Boolean(review.panels.map)), "keys"),
      file,
    ),
  );

  function mark(tab) {
    for (const one of tabs) one.setAttribute("aria-selected", one.dataset.tab === tab);
  }
  function update() {
    const { drop, keep, unsure } = decisions.counts;
    const said = [
      [drop, "drop"],
      [keep, "keep"],
      [unsure, "unsure"],
    ].map(([value, word]) => h("span", { class: word }, h("b", {}, count(value)), ` ${word}`));
    told.replaceChildren(
      ...said,
      h(
        "span",
        {},
        h("b", {}, `${dropTotal(review).exact ? "" : "about "}${count(dropTotal(review).count)}`),
        " will be dropped",
      ),
    );
    undo.disabled = !decisions.steps.length;
  }
  return { element, mark, update };
}

/** The command that makes lists of the saved decisions. */
export function commandOf(run, decisions) {
  const quoted = /^[\w@%+=:,./-]+$/.test(run.path) ? run.path : `'${run.path.replaceAll("'", `'"'"'`)}'`;
  const add = decisions.border === null ? " --add" : "";
  return `clipscan export ${quoted} --decisions decisions.json${add}`;
}

async function save(review) {
  const { decisions, data } = review;
  const command = commandOf(data.run, decisions);
  const about =
    decisions.border === null
      ? "Your decisions correct the drop list of the run as it is: what you drop is added, what you keep is taken off."
      : "What is above the border is dropped, corrected by your decisions.";
  const content = h(
    "div",
    {},
    h("p", {}, `${many(decisions.words.size, "decision")}; unsure samples count as undecided. `, about),
    h("pre", { tabindex: "0" }, command),
  );
  const answer = await ask("Save decisions", content, {
    json: "Save decisions.json",
    csv: "Save a table (CSV)",
    copy: "Copy the command",
    "": "Close",
  });
  if (answer === "json")
    download(
      "decisions.json",
      `${JSON.stringify(fileOf(data.run, decisions), null, 1)}\n`,
      "application/json",
    );
  if (answer === "csv") download("decisions.csv", tableOf(decisions), "text/csv");
  if (answer === "copy") copyText(command);
}
