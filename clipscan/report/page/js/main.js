/** Starts the review on the data of the page; without it the page stays as it is without scripts. */
import { actionsOf } from "./actions.js";
import { Decisions } from "./decisions.js";
import { h, say } from "./dom.js";
import { listenToKeys } from "./keys.js";
import { Review } from "./review.js";
import { PageSource } from "./samples.js";
import { ServedSource, ServedStorage } from "./served.js";
import { BrowserStorage } from "./storage.js";
import { many } from "./text.js";

const SECTIONS = { "#convicted": "groups", "#alike": "groups", "#groups": "groups", "#suspects": "suspects" };

async function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("review");
  const warn = (text) => {
    if (!root.querySelector(".warning"))
      root.prepend(h("p", { class: "notice warning", role: "alert" }, text));
  };
  const source = data.served ? new ServedSource(data) : new PageSource(data);
  const storage = data.served ? new ServedStorage(data, warn) : new BrowserStorage(data.run.id, warn);
  if (data.served) source.beforeSelect = () => storage.flush();
  const decisions = new Decisions(storage);
  if (decisions.words.size) say(`${many(decisions.words.size, "decision")} of an earlier visit`);
  root.hidden = false;
  const review = new Review(root, data, source, decisions);
  listenToKeys(actionsOf(review), () => bringIntoView(root));
  leadHere(review, root);
  window.clipscan = { review, decisions, source };
  return review.start();
}

/** The review fills the window while it is worked on. */
function bringIntoView(root) {
  if (Math.abs(root.getBoundingClientRect().top) > 2) root.scrollIntoView({ behavior: "instant" });
}

/** Links to the sections that the review replaces open its views. */
function leadHere(review, root) {
  for (const link of document.querySelectorAll("a[href^='#']")) {
    const tab = SECTIONS[link.getAttribute("href")];
    if (!tab) continue;
    link.addEventListener("click", (event) => {
      event.preventDefault();
      review.open(tab);
      root.scrollIntoView();
    });
  }
}

start().catch((wrong) => {
  document.documentElement.classList.remove("js");
  document.getElementById("review").hidden = true;
  throw wrong;
});
