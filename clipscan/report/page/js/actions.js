/** What each key does, by its name in keys.js. */
import { say } from "./dom.js";
import { EVERYTHING } from "./filters.js";
import { showHelp } from "./keys.js";

/** Actions by name; one that returns false leaves the key to the browser. */
export function actionsOf(review) {
  const inGroups = () => review.tab === "groups";
  const step = (by) => (inGroups() ? review.groups.focus(review.groups.current + by) : moveBy(review, by));
  const row = (by) => (inGroups() ? false : moveBy(review, by * review.gallery.columns()));
  return {
    next: () => step(1),
    previous: () => step(-1),
    down: () => row(1),
    up: () => row(-1),
    drop: () => review.decide("drop"),
    keep: () => review.decide("keep"),
    unsure: () => review.decide("unsure"),
    clear: () => review.decide(""),
    undo: () => review.undo(),
    find: () => find(review),
    group: () => (inGroups() ? review.open("suspects") : groupOfFocus(review)),
    open: () =>
      inGroups() ? review.groups.group && review.openGroup(review.groups.group) : review.open("groups"),
    best: () => review.keepBest(inGroups() ? review.groups.group : copiesOfFocus(review)),
    near: () => (inGroups() ? undefined : review.detail.toggleNear()),
    map: () => (review.panels.map ? review.open("map") : false),
    leave: () => (inGroups() ? false : review.filter.set(EVERYTHING)),
    help: () => showHelp(Boolean(review.panels.map)),
  };
}

function moveBy(review, by) {
  review.focus(Math.max(0, Math.min(review.list.length - 1, review.place + by)));
}

function find(review) {
  review.open("suspects");
  review.panels.suspects.classList.add("filtering");
  review.filter.find();
}

function groupOfFocus(review) {
  const group = review.list.at(review.place)?.groups[0];
  if (group) review.openGroup(group);
  else say("It is in no group.");
}

function copiesOfFocus(review) {
  return review.list.at(review.place)?.groups.find((one) => one.kind === "copies");
}
