/** How many samples are dropped in all: by the border or the list, and by single decisions. */

/** {count, exact} at a border, null for the drop list; as a rule at the one that is set. */
export function dropTotal({ decisions, source, border, data }, threshold = decisions.border) {
  const base = border ? border.base(threshold) : { count: data.counts.dropped ?? 0, exact: true };
  let total = base.count;
  for (const [name, word] of decisions.words) {
    const sample = source.byName.get(name);
    const before = sample ? decisions.inBase(sample, threshold) : false;
    if (word === "drop" && !before) total += 1;
    if (word === "keep" && before) total -= 1;
  }
  return { count: total, exact: base.exact };
}
