/** How many samples are dropped in all: by the border or the list, and by single decisions. */

/** {count, exact} at a border, null for the drop list; as a rule at the one that is set. Not exact with decisions
 * on samples that the page does not hold: whether the border or the list takes them is not known here. */
export function dropTotal({ decisions, source, border, data }, threshold = decisions.border) {
  const base = border ? border.base(threshold) : { count: data.counts.dropped ?? 0, exact: true };
  let { count: total, exact } = base;
  for (const [name, word] of decisions.words) {
    const sample = source.byName.get(name);
    if (!sample && word !== "unsure") exact = false;
    const before = sample ? decisions.inBase(sample, threshold) : false;
    if (word === "drop" && !before) total += 1;
    if (word === "keep" && before) total -= 1;
  }
  return { count: total, exact };
}
