"""Second populations: rows that belong together, and not to the clean pairs.

Five kinds of candidates, each found by one kind of evidence and convicted by others (scores/conviction.py):

trait       what the pictures of the most mismatched pairs share (scores/trait.py), or those of the most
            mismatched neighborhood of captions, as captions that name one word may be hardly odd each by
            itself. The trait is learnt from other folds than those it is tried on, so clean pairs that bear
            it by chance are mismatched no oftener than usual.
target      captions that say the same, and what their pictures share: both are learnt, in turn, from the
            neighborhoods of captions that all evidence together is against. A trigger that is half learnt
            shows a little in each kind of it, and each caption by itself is hardly odd.
collapse    captions that say the same, whose pictures the suspect model draws together far more than it does
            those of other captions, though they show as much as others do: a trigger that is learnt, however
            many pairs have it. Where those are many no single one of them is odd. It takes features that the
            suspect model had no part in.
density     rows that are nearest to one another by picture and caption, all of them far from everybody else.
            An honest rare topic is such a group as well.
captions    captions that say the same, most of them on pictures that they do not fit; of one wording only
            where these are of one kind, as boilerplate is on pictures of all. Or those of a target whose
            pictures share no trait that can be seen, such as a warp.

Where a population ends: scores/change_point.py, of pictures in the order of their trait. Around a dense group
evidence is density, and whoever bears the trait is more alone in any case: there the first end is taken that
is hardly worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from clipscan.engine import as_rows
from clipscan.engine.arrays import Array
from clipscan.scores.change_point import FEWEST, Shown, ends, likelihoods, null_share, strength
from clipscan.scores.conviction import Conviction
from clipscan.scores.groups import components
from clipscan.scores.pairs import NEIGHBORS, Pairs
from clipscan.scores.pictures import MOST, mean_by
from clipscan.scores.scaled import Scaled, in_steps
from clipscan.scores.tail import neg_log_tail, neg_log_tails
from clipscan.scores.trait import Discriminant

SEEDS = (24, 0.005)  # candidates that a trait is learnt from: at least so many, and this share of the rows
TOPICS, TOPIC = 4, 128  # neighborhoods of captions that one is learnt from too; captions of each
ODD, ASKED = 0.1, 1024  # share of the rows whose neighborhoods are looked at; so many of them, at most
UNUSUAL = 4.5  # robust deviations of a neighborhood's contraction, in logarithms, at least
AGAIN = 3  # times that it is learnt anew from those that bear it
MANY = 16  # populations of a kind, at most
STRENGTH = 12.0  # of the evidence for a population (scores/change_point.py), at least
COPIES = 8  # times as many rows are looked through, so that copies of one picture do not fill the seeds
BEYOND = 4  # times as many rows as a population has are looked through for near-copies
COMPANY = 2.0  # weight of the density of neighbours beside the own one
CANDIDATES = 0.02  # of the rows, by density; and at most MOST
ROUNDS = 8  # of growing
ALONE = 0.45  # of a group that is a candidate
PART = 0.9  # of a population's rows in another one: they are the same
MOSTLY = 0.5  # of the pairs that say the same must be mismatched


class Population(NamedTuple):
    """kind; rows, surest first: `number` convicted ones, of which `fewest` are sure, and those up to `most`
    that may belong to it. pictures: distinct ones among the convicted. misfit: their mean negative log tail
    (1 is usual), null_share: estimated share of clean pairs among them (Storey 2002); NaN without
    captions."""

    kind: str
    rows: Array
    fewest: int
    number: int
    most: int
    pictures: int
    misfit: float
    null_share: float
    bearing: Array  # [n]: negative log tail of the trait, 0 where there is none

    def record(self) -> dict[str, Any]:
        """For JSON, which has no NaN, without the rows."""
        told = {name: value for name, value in self._asdict().items() if name not in ("rows", "bearing")}
        return {name: None if value != value else value for name, value in told.items()}


def populated(found: Sequence[Population], n: int) -> Array:
    """Which of the populations each of n rows is convicted with, the first of several; -1 for none."""
    label = np.full(n, -1, np.int64)
    for number in reversed(range(len(found))):
        label[found[number].rows[: found[number].number]] = number
    return label


@dataclass
class Populations:
    """What populations are found in. All [n]: negative log tails of density, of the cross-modal scores and of
    misfit; `independent`: whether misfit is by features that the suspect model had no part in."""

    pairs: Pairs
    features: Scaled  # of pictures, and of the suspect model's image vectors
    density: Array
    cross_modal: Array
    misfit: Array  # NaN without captions
    shown: Array | None  # [n, q] what pictures show that captions speak of; None without captions
    independent: bool

    def __post_init__(self) -> None:
        self.n, self.picture = self.pairs.n, self.pairs.identity.content
        self.pictures = self.pairs.pictures
        self.trait = Discriminant(self.features, self.picture, self.pairs.identity.code)
        self.conviction = Conviction(self.pairs, self.misfit, self.shown, self.independent)
        self._seeds = min(self.n // 4, max(SEEDS[0], round(SEEDS[1] * self.n)))

    def found(self) -> list[Population]:
        """All populations; a row may be in several."""
        if self.pairs.text is None:
            return self._by_density()
        # Every pair's own mismatch, and all evidence.
        mismatch, evidence = self.cross_modal + self.misfit, self.misfit + self.cross_modal + self.density
        return _whole([
            *self._one_by_one(partial(self._by_trait, mismatch)),
            *self._one_by_one(partial(self._by_target, neg_log_tail(evidence))),
            *self._one_by_one(self._by_collapse),
            *self._by_density(),
            *self._by_captions(neg_log_tail(mismatch)),
        ])  # fmt: skip

    def _one_by_one(self, find: Callable[[Array], list[tuple[Population, float]]]) -> list[Population]:
        """What is found among the rows left, [n] bool: the one that stands out most, and so on."""
        found: list[Population] = []
        left = np.ones(self.n, bool)
        while len(found) < MANY and (several := find(left)):
            found.append(max(several, key=lambda pair: pair[1])[0])
            left[found[-1].rows] = False
        return found

    def _by_trait(self, mismatch: Array, left: Array) -> list[tuple[Population, float]]:
        """What the pictures of mismatched pairs share."""
        mismatch = np.where(left, mismatch, 0.0)
        seeds = [self._top(mismatch), *self._topics(mismatch, self.misfit, left)]
        for _ in range(AGAIN):
            seeds = [
                self._top(np.where(left, neg_log_tail(one) + self.misfit, 0.0))
                for one in self.trait.each(seeds)
            ]
        traits = self.trait.each(seeds)
        found = []
        for trait in np.where(left, traits, traits.min()):
            one = self._up_to_change("trait", trait, self.misfit, trait)
            if one and self.conviction.of_trait(one.rows[: one.number], trait):
                found.append((one, float(trait[one.rows[: one.number]].sum())))
        return found

    def _by_target(self, evidence: Array, left: Array) -> list[tuple[Population, float]]:
        """Captions that say the same, on pictures that share a trait or that they do not fit."""
        chosen = self._topics(np.where(left, evidence, 0.0), evidence, left)
        if not chosen:
            return []
        for again in range(1 + AGAIN):
            traits, words = self.trait.each(chosen), self._words.each(chosen)
            both = np.where(left, neg_log_tails(traits) + neg_log_tails(words), 0.0)
            if again < AGAIN:
                chosen = [self._top(np.where(left, one + evidence, 0.0)) for one in both]
        found = []
        for seeds, bearing, said in zip(chosen, both, words, strict=True):
            one = self._up_to_change("target", bearing, evidence)
            if one and self.conviction.of_target(one.rows[: one.number], evidence, said):
                found.append((one, float(bearing[one.rows[: one.number]].sum())))
            rows = self.pairs.highest_first(said, np.flatnonzero(left & _bearing(said, seeds)))
            if self.pictures.count(rows) >= FEWEST and self.conviction.of_word(rows, said):
                number = len(rows)
                one = self._of("captions", rows, number, number, number, self.misfit, bearing)
                found.append((one, float(bearing[rows].sum())))
        return found

    @cached_property
    def _words(self) -> Discriminant:
        """Linear discriminants of captions."""
        said = Scaled([self.pairs.said], self.features.fitted)
        return Discriminant(said, self.picture, self.pairs.identity.code)

    def _topics(self, mismatch: Array, evidence: Array, left: Array) -> list[Array]:
        """Of the most mismatched captions the neighborhoods that most evidence is against on average, each of
        another meaning, [n] bool."""
        asked = self.pairs.highest_first(mismatch)[: max(FEWEST, round(ODD * self.n))]
        asked = asked[:: -(-len(asked) // ASKED)]
        near = self.pairs.alike(asked, TOPIC)
        return self._different(asked, near, (left * evidence)[near].mean(axis=1), left)

    def _different(self, asked: Array, near: Array, values: Array, left: Array) -> list[Array]:
        """Of neighborhoods of captions [m, TOPIC], around those `asked` [m], those of the highest values [m],
        each of another meaning, [n] bool."""
        said = self.pairs.said.take(asked)
        topics: list[Array] = []
        taken = np.zeros(self.n, bool)
        others = np.ones(len(asked), bool)  # that say something else than all topics before
        for one in np.lexsort((self.pairs.identity.code[asked], -values)):
            rows = near[one][left[near[one]]]
            if others[one] and len(rows) >= FEWEST and taken[rows].mean() <= MOSTLY:
                topics.append(np.isin(np.arange(self.n), rows))
                taken |= topics[-1]
                others &= np.linalg.norm(said - said[one], axis=1) > self.pairs.same
            if len(topics) == TOPICS:
                break
        return topics

    def _by_collapse(self, left: Array) -> list[tuple[Population, float]]:
        """Captions that say the same, whose pictures the suspect model draws together."""
        chosen = self._contracted(left) if self.independent else []
        if not chosen:
            return []
        for _ in range(1 + AGAIN):
            traits = self.trait.each(chosen)
            chosen = [left & _bearing(trait, one) for trait, one in zip(traits, chosen, strict=True)]
        found = []
        for trait, one in zip(traits, chosen, strict=True):
            rows = self.pairs.highest_first(trait, np.flatnonzero(one))
            if self.pictures.count(rows) >= FEWEST and self.conviction.of_collapse(rows, trait):
                number, unasked = len(rows), np.full(self.n, np.nan)
                collapse = self._of("collapse", rows, number, number, number, unasked, trait)
                found.append((collapse, float(trait[rows].sum())))
        return found

    def _contracted(self, left: Array) -> list[Array]:
        """Of captions drawn at random the neighborhoods whose pictures the suspect model draws together far
        more than is usual here, each of another meaning, [n] bool."""
        asked = self.pairs.highest_first(left.astype(np.float64))[:ASKED]
        near = self.pairs.alike(asked, TOPIC)
        values = np.log([self.conviction.contraction(rows) for rows in near])
        low, median, high = np.quantile(values, [0.16, 0.5, 0.84])
        unusual = values - median >= UNUSUAL * (high - low) / 2
        return self._different(asked[unusual], near[unusual], values[unusual], left)

    def _by_density(self) -> list[Population]:
        """Groups of near neighbours by picture and caption among the rows that are most alone."""
        rows, index, company = self._alone
        chosen = np.lexsort((self.pairs.identity.code[rows], -(self.density[rows] + COMPANY * company)))
        chosen = chosen[: len(rows) // 2]
        candidate = np.zeros(self.n, bool)
        candidate[rows[chosen]] = True
        label = components(self.n, *_mutual(rows[chosen], index[chosen], candidate))
        members = [np.flatnonzero((label == one) & candidate) for one in np.unique(label[candidate])]
        aloneness = dict(zip(rows.tolist(), company.tolist(), strict=True))
        found = []
        for group in members:
            if self.pictures.count(group) < FEWEST:
                continue
            alone = float(np.mean([aloneness[row] for row in group.tolist()]))
            alone /= 1 - np.log(len(group) / self.n)  # what it is if no other row is as alone as these
            if alone >= ALONE and self.conviction.of_group(group, alone):
                found.append(self._grown(group))
        return found

    @cached_property
    def _alone(self) -> tuple[Array, Array, Array]:
        """The rows that are most alone, [m]; their neighbours by picture and caption, [m, k]; and how alone
        these are on average."""
        count = min(MOST, max(FEWEST, round(2 * CANDIDATES * self.n)))
        rows = np.sort(self.pairs.highest_first(self.density)[:count])
        index = self.pairs.near(rows)
        return rows, index, self.density[index].mean(axis=1)

    def lonely(self) -> Array:
        """Density [n]; of the rows that are most alone by how alone they and their neighbours are, as an odd
        picture has usual neighbours, and planted ones have one another."""
        rows, _, company = self._alone
        others = np.delete(self.density, rows)
        above = self.density[rows] > others.max(initial=-np.inf)  # equal rows stay equal
        rows, company = rows[above], company[above]
        found = self.density.copy()
        share = len(rows) / self.n
        found[rows] = neg_log_tail(self.density[rows] + COMPANY * company) - np.log(share or 1.0)
        return found

    def _grown(self, group: Array) -> Population:
        """A group, all rows half of whose neighbours are of it, and what bears its trait and is alone."""
        inside = np.zeros(self.n, bool)
        inside[group] = True
        asked = group
        for _ in range(ROUNDS):
            asked = np.setdiff1d(self.pairs.near(asked), np.flatnonzero(inside))
            if not len(asked):
                break
            asked = asked[inside[self.pairs.near(asked)].mean(axis=1) >= 1 / 2]
            if not len(asked):
                break
            inside[asked] = True
        trait = self.trait.of(inside)
        alike = self._up_to_change("density", trait, self.density)
        added = np.setdiff1d(np.flatnonzero(inside), group)
        may = np.zeros(0, np.int64)
        if alike:
            added = np.union1d(added, np.setdiff1d(alike.rows[: alike.fewest], group))
            may = np.setdiff1d(alike.rows, np.union1d(added, group))
        rows = np.concatenate([self.pairs.highest_first(self.density, part) for part in (group, added, may)])
        number = len(group) + len(added)
        return self._of("density", rows, len(group), number, len(rows), self.misfit, trait)

    def _by_captions(self, mismatch: Array) -> list[Population]:
        """Captions that say the same, on pictures that they do not fit."""
        candidate = np.zeros(self.n, bool)
        candidate[self.pairs.highest_first(mismatch)[: max(FEWEST, round(CANDIDATES * self.n))]] = True
        caption = self.pairs.wording
        first = np.unique(caption, return_index=True)[1]
        hits, rows = np.bincount(caption, candidate), np.bincount(caption)
        asked = np.flatnonzero(hits)  # captions of candidates
        if len(first) < 2:
            return []
        distinct = as_rows([self.pairs.said.take(part) for part in in_steps(first)])
        engine = self.pairs.engine.with_k(min(NEIGHBORS, len(first) - 1))
        table = engine.between(as_rows(distinct.take(asked)), distinct, asked, np.arange(len(first)))
        near = table.distance <= self.pairs.same
        share = (hits[asked] + (hits[table.index] * near).sum(axis=1)) / (
            rows[asked] + (rows[table.index] * near).sum(axis=1)
        )
        dense = np.zeros(len(first), bool)
        dense[asked[share >= MOSTLY]] = True
        a, b = np.repeat(asked, engine.k), table.index.ravel()
        linked = near.ravel() & dense[a] & dense[b]
        label = components(len(first), a[linked], b[linked])
        found = []
        for one in np.unique(label[dense]):
            members = np.flatnonzero(np.isin(caption, np.flatnonzero((label == one) & dense)))
            if self.pictures.count(members) >= FEWEST:
                if self.conviction.boilerplate(members):
                    continue
                members = self.pairs.highest_first(mismatch, members)
                sure = int(candidate[members].sum())
                number = len(members)
                found.append(self._of("captions", members, sure, number, number, self.misfit))
        return found

    def _up_to_change(
        self, kind: str, order_by: Array, evidence: Array, trait: Array | None = None
    ) -> Population | None:
        """The rows that are highest in `order_by`, up to where evidence falls to that of clean rows and, of a
        `trait`, none bears it less than half as much as they do in median; None for too few. Pictures one of
        whose captions fits are no members."""
        order = self.pairs.highest_first(order_by)
        shown = Shown.of(self.picture[order], evidence[order])
        if strength(shown.evidence) < STRENGTH:
            return None  # near-copies would only take from it
        end = int(shown.last[likelihoods(shown.evidence).argmax()]) + 1
        shown = Shown.of(self.pictures.distinct(order, BEYOND * max(end, FEWEST)), evidence[order])
        total = likelihoods(shown.evidence)
        if strength(shown.evidence) < STRENGTH:
            return None
        members = np.cumsum(~shown.honest)
        fewest, number, most = (int(members[shown.last[end]]) for end in ends(total))
        rows = order[~shown.honest][:most]
        if trait is not None:
            number = min(number, int((trait[rows] >= np.median(trait[rows[:number]]) / 2).sum()))
        one = self._of(kind, rows, min(fewest, number), number, most, evidence, order_by)
        return one if one.pictures >= FEWEST else None

    def _of(
        self, kind: str, rows: Array, fewest: int, number: int, most: int, evidence: Array,
        trait: Array | None = None,
    ) -> Population:  # fmt: skip
        shown = self.pictures.distinct(rows[:number])
        misfit, against = (mean_by(shown, values[rows[:number]]) for values in (self.misfit, evidence))
        figures = (len(misfit), float(misfit.mean()), null_share(against))
        bearing = np.zeros(self.n) if trait is None else neg_log_tail(trait)
        return Population(kind, rows, fewest, number, most, *figures, bearing)

    def _top(self, values: Array) -> Array:
        """The rows of highest value, of copies and near-copies of a picture only the first."""
        chosen = np.zeros(self.n, bool)
        first = self.pairs.highest_first(values)[: COPIES * self._seeds]
        chosen[self.pictures.first(first)[: self._seeds]] = True
        return chosen


def _bearing(trait: Array, chosen: Array) -> Array:
    """Who bears a trait [n] at least half as much as the chosen ([n] bool) do in median, [n] bool."""
    median = np.median(trait[chosen])
    return trait >= min(median, median / 2)  # type: ignore[no-any-return]


def _whole(found: list[Population]) -> list[Population]:
    """Without populations that are part of another: one kind of poison is found in several ways."""
    kept: list[Population] = []
    for one in sorted(found, key=lambda one: -one.number):
        rows = one.rows[: one.number]
        inside = [np.isin(rows, other.rows[: other.number]).mean() for other in kept]
        if not inside or max(inside) < PART:
            kept.append(one)
    return kept


def _mutual(rows: Array, index: Array, among: Array) -> tuple[Array, Array]:
    """Edges (a, b) between rows [m], all `among`, that are neighbours of each other: index [m, k]."""
    a, b = np.repeat(rows, index.shape[1]), index.ravel()
    kept = (b >= 0) & among[b]
    a, b = a[kept].astype(np.int64), b[kept].astype(np.int64)
    mutual = np.isin(b * len(among) + a, a * len(among) + b)
    return a[mutual], b[mutual]
