/** The samples, suspects and groups of a page that holds all of them. clipscan serve has another source. */
import { pictureIn } from "./pictures.js";

/** One name for a sample, as decisions are kept by. */
export function nameOf(shard, key) {
  return `${shard}\0${key}`;
}

/** A list as the gallery takes it: a length, samples by place (null: not loaded yet), and loading of a range. */
export function listOf(samples) {
  return { length: samples.length, at: (i) => samples[i] ?? null, load: async () => {} };
}

/** Everything is in the page. */
export class PageSource {
  constructor(data) {
    this.data = data;
    this.samples = samplesOf(data);
    this.suspects = suspectsOf(data, this.samples);
    this.groups = groupsOf(data, this.samples);
    this.byName = new Map(this.samples.map((sample) => [sample.name, sample]));
    this.total = data.counts.suspects;
  }

  /** What can be chosen in the filter. */
  options() {
    const used = new Set(this.suspects.map((sample) => sample.shard));
    return { shards: [...used].sort(), domains: this.data.suspects.domains.filter(Boolean).sort() };
  }

  /** The samples that a filter shows: members of a group, else suspects. */
  async select(filter, passes) {
    const group = this.groups.find((one) => one.number === filter.group);
    return listOf((group ? group.members : this.suspects).filter(passes));
  }

  /** [sample, distance] of the nearest, or why there are none. */
  async neighbours(sample) {
    return (
      sample.near ??
      "In this file the first suspects have neighbours; clipscan serve shows them for every sample."
    );
  }

  picture(sample) {
    return pictureIn(this.data, sample);
  }
}

export function samplesOf(data) {
  const { shard, key, caption, score, at } = data.samples;
  const listed = new Set(data.listed);
  const locked = new Set(data.locked);
  return key.map((one, number) => ({
    number,
    shard: data.shards[shard[number]],
    key: one,
    name: nameOf(data.shards[shard[number]], one),
    caption: data.captions[caption[number]],
    score: score[number],
    at: at[number],
    listed: listed.has(number),
    locked: locked.has(number),
    rank: null,
    groups: [],
  }));
}

/** The suspects, most suspicious first, completed by what only suspects have. */
export function suspectsOf(data, samples) {
  const columns = data.suspects;
  return columns.sample.map((number, i) =>
    Object.assign(samples[number], {
      rank: columns.rank[i],
      why: columns.whys[columns.why[i]],
      domain: columns.domains[columns.domain[i]],
      copies: columns.group[i],
      alike: columns.alike[i],
      others: columns.others[i].map(([score, value, rank]) => [columns.scores[score], value, rank]),
      near: data.near[i]?.map(([other, distance]) => [samples[other], distance]) ?? null,
    }),
  );
}

/** The groups with their members as samples, which know their groups. */
export function groupsOf(data, samples) {
  return data.groups.map((group) => {
    const members = group.members.map((number) => samples[number]);
    const whole = { ...group, members, best: group.best === null ? null : samples[group.best] };
    for (const member of members) member.groups.push(whole);
    return whole;
  });
}
