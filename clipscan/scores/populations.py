"""Second populations: rows that belong together, and not to the clean pairs. Candidates first, then
conviction.

Three kinds of candidates, each found by one kind of evidence and convicted by others:

trait       what the pictures of the most mismatched pairs share (scores/trait.py), or those of the most
            mismatched neighborhood of captions, as captions that name one word may be hardly odd each by
            itself. Convicted where the pairs that bear it most have captions which the witness finds wrong,
            on pictures that are of all kinds otherwise and bear it far more than all others do: a picture has
            a trigger or has none. The trait is learnt from other folds than those it is tried on, so clean
            pairs that bear it by chance are mismatched no oftener than usual.
density     rows that are nearest to one another by picture and caption, all of them far from everybody else.
            An honest rare topic is such a group as well: it is convicted by the witness, or, where there are
            no pictures to ask about, when its members are as alone as rows can be.
captions    captions that say the same, most of them on pictures that they do not fit; of one wording only
            where these are of one kind, as boilerplate is on pictures of all.

Where a population ends: pictures are taken in the order of their trait, and each adds the logarithm of a
likelihood ratio, that of p-values which crowd at 0 (Beta(SHAPE, 1)) against uniform ones; the sum is highest
at the maximum-likelihood change point. Of clean pairs alone, whose evidence is exponential whatever their
trait, it ever exceeds STRENGTH with a probability below exp(-STRENGTH) (Ville's inequality; Wald 1945). The
end is put where half of the pictures are planted: there evidence is halfway between theirs and the usual.
Around a dense group evidence is density, and whoever bears the trait is more alone in any case: there the
first end is taken that is hardly worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array, unit
from clipscan.scores.groups import SAME, SHARE, components, typical_distance
from clipscan.scores.local import Engine
from clipscan.scores.references import Identity, Scale, identify
from clipscan.scores.scaled import Scaled, in_steps
from clipscan.scores.tail import neg_log_tail
from clipscan.scores.trait import Discriminant

FEWEST = 12  # pictures that are a population
SEEDS = (24, 0.005)  # candidates that a trait is learnt from: at least so many, and this share of the rows
TOPICS, TOPIC = 4, 128  # neighborhoods of captions that one is learnt from too; captions of each
ODD, ASKED = 0.1, 1024  # share of the rows whose neighborhoods are looked at; so many of them, at most
AGAIN = 3  # times that it is learnt anew from those that bear it
MANY = 16  # populations of this kind, at most
HALF = float(np.log(2))  # evidence that half of the clean rows have
SHAPE = 0.35
STRENGTH = 12.0
SURE = 3.0  # how far below its maximum the sum is at ends that are hardly worse, at most
COPIES = 8  # times as many rows are looked through, so that copies of one picture do not fill the seeds
CANDIDATES, MOST = 0.02, 1 << 14  # of the rows, by density; and at most so many
NEIGHBORS = 16
ROUNDS = 8  # of growing, and of finding an end
CONTROLS = 1000  # groups of neighbours elsewhere that a group is held against
ALPHA = 0.002  # share of the controls that may be as mismatched as a convicted group
NULL_SHARE = 0.3  # estimated share of clean pairs, at most, in a convicted group
ALONE = (0.45, 0.75)  # of a group: to be a candidate; to be convicted without pictures
ACQUITTED = 0.9  # share of the controls as mismatched as a group whose captions fit
ONE_WORDING = 0.8  # share of pairs under one caption from which it is boilerplate
# Variance of a trait's pictures, as a share of that of all, at least: a blend at alpha leaves (1 - alpha)^2.
DIVERSE = 0.4
DIRECTIONS = 8  # in which it is taken
SEPARATE = 2.0  # how far a population bears its trait beside those who come next, at least
WRONG = 1.75  # mean misfit of its pictures, at least
PART = 0.9  # of a population's rows in another one: they are the same
MOSTLY = 0.5  # of the pairs that say the same must be mismatched
# Captions a third as far apart as two random ones count as much as pictures that are strangers.
CAPTION_SCALE = 3.0
SAMPLED = 4096  # rows, by twos, that say how far apart strangers are


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


class _Shown(NamedTuple):
    """Pictures in the order in which m rows first show them: `evidence` of each, the least of its rows, as
    several captions count as the one that fits best; the `last` row before the next picture. honest [m]: rows
    of pictures one of whose captions fits."""

    evidence: Array
    last: Array
    honest: Array

    @classmethod
    def of(cls, label: Array, evidence: Array) -> _Shown:
        """Rows in order: which picture each has, and its evidence."""
        _, at, of, rows = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
        least = np.full(len(at), np.inf)
        np.minimum.at(least, of.ravel(), evidence)
        turn = np.argsort(at, kind="stable")
        last = np.append(at[turn][1:], len(label)) - 1
        return cls(least[turn], last, ((rows > 1) & (least < HALF))[of.ravel()])


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

    image: Rows
    text: Rows | None
    identity: Identity
    engine: Engine
    features: Scaled  # of pictures, and of the suspect model's image vectors
    seen: Scaled  # what the witness goes by
    density: Array
    cross_modal: Array
    misfit: Array  # NaN without captions
    independent: bool
    seed: int = 0

    def __post_init__(self) -> None:
        self.n, self.picture = self.image.n, self.identity.content
        self.discriminant = Discriminant(self.features, self.picture, self.identity.code)
        drawn = self.identity.sample(Scale("strangers", SAMPLED, 1), 0, self.seed)
        self._copies = self._copy_bound(drawn[:CONTROLS])
        self._apart = [
            typical_distance(rows.take(drawn)) for rows in (self.image, self.text) if rows is not None
        ]
        self._seeds = min(self.n // 4, max(SEEDS[0], round(SEEDS[1] * self.n)))

    def found(self) -> list[Population]:
        """All populations, those with the surest trait first; a row may be in several."""
        if self.text is None:
            return self._by_density()
        return _whole([*self._by_trait(), *self._by_density(), *self._by_captions(self.text)])

    def _by_trait(self) -> list[Population]:
        """One after the other, each without the rows of those before."""
        found: list[Population] = []
        left = np.ones(self.n, bool)
        while len(found) < MANY:
            mismatch = np.where(left, self.cross_modal + self.misfit, 0.0)
            seeds = [self._top(mismatch), *self._topics(mismatch, left)]
            one = self._of_traits(seeds, left)
            if one is None:
                break
            found.append(one)
            left[one.rows] = False
        return found

    def _of_traits(self, seeds: list[Array], left: Array) -> Population | None:
        """The population whose trait is found from one of these seeds, each [n] bool, and stands out most."""
        for _ in range(AGAIN):
            traits = self.discriminant.each(seeds)
            seeds = [self._top(np.where(left, neg_log_tail(one) + self.misfit, 0.0)) for one in traits]
        traits = np.where(left, self.discriminant.each(seeds), traits.min())
        found = [(self._up_to_change("trait", one, self.misfit), one) for one in traits]
        convicted = [
            (one, trait)
            for one, trait in found
            if one is not None and self._wrong(one) and self._separation(one, trait) >= SEPARATE
        ]
        if not convicted:
            return None
        return max(convicted, key=lambda pair: pair[1][pair[0].rows[: pair[0].number]].sum())[0]

    def _wrong(self, one: Population) -> bool:
        """Whether captions are wrong on pictures of all kinds."""
        wrong = one.misfit >= WRONG and one.null_share <= NULL_SHARE
        return wrong and self._diversity(one.rows[: one.number]) >= DIVERSE

    def _topics(self, mismatch: Array, left: Array) -> list[Array]:
        """The neighborhoods of captions that fit their pictures worst on average, each [n] bool."""
        assert self.text is not None
        turn, said = self._captions
        asked = self._highest_first(mismatch)[: max(FEWEST, round(ODD * self.n))]
        asked = asked[:: -(-len(asked) // ASKED)]
        engine = self.engine.with_k(min(TOPIC, self.n - 1))
        near = turn[engine.between(as_rows(unit(self.text.take(asked))), said, asked, turn).index]
        topics: list[Array] = []
        for rows in near[np.lexsort((self.identity.code[asked], -(left * self.misfit)[near].mean(axis=1)))]:
            topic = np.zeros(self.n, bool)
            topic[rows[left[rows]]] = True
            if topic.sum() >= FEWEST and not any(one[rows].mean() > MOSTLY for one in topics):
                topics.append(topic)
            if len(topics) == TOPICS:
                break
        return topics

    @cached_property
    def _captions(self) -> tuple[Array, Rows]:
        """Rows by lot, so that ties of captions do not go by the order of rows, and directions of theirs."""
        assert self.text is not None
        turn = self._highest_first(np.zeros(self.n))
        return turn, as_rows([_halved(unit(self.text.take(rows))) for rows in in_steps(turn)])

    def _separation(self, one: Population, trait: Array) -> float:
        """How far the pictures of a population bear a trait, in median, by how far those do that come after
        as many others: about 1.5 where all pictures have it, some more and some less."""
        order = self._highest_first(trait)
        pictures = order[np.sort(np.unique(self.picture[order], return_index=True)[1])]
        beyond = trait[pictures[min(2 * one.pictures, len(pictures) - 1)]]
        return float(np.median(trait[one.rows[: one.number]]) / max(1.0, beyond))

    def _diversity(self, rows: Array) -> float:
        """How far the pictures of these rows differ among themselves, as a share of how far all do: median of
        the directions in which pictures differ most. Victims of a trigger are pictures of all kinds; an
        honest topic that the witness does not know, or two of them, are of few."""
        first = rows[np.unique(self._distinct(rows), return_index=True)[1]]
        count = max(1, min(DIRECTIONS, len(first) // 4))
        values = np.cov(self.seen.take(first) @ self._directions[:, :count], rowvar=False)
        return float(np.median(np.linalg.eigvalsh(np.atleast_2d(values))))

    @cached_property
    def _directions(self) -> Array:
        """Those in which pictures differ most, scaled so that their variance is 1: [p, DIRECTIONS]."""
        drawn = self.identity.sample(Scale("pictures", SAMPLED, 1), 2, self.seed)
        variance, direction = np.linalg.eigh(np.cov(self.seen.take(drawn), rowvar=False))
        top = slice(None, -1 - min(DIRECTIONS, len(variance)), -1)
        return direction[:, top] / np.sqrt(np.maximum(variance[top], 1e-12))  # type: ignore[no-any-return]

    def _by_density(self) -> list[Population]:
        """Groups of near neighbours by picture and caption among the rows that are most alone."""
        count = min(MOST, max(FEWEST, round(2 * CANDIDATES * self.n)))
        rows = np.sort(self._highest_first(self.density)[:count])
        index = self._near(rows)
        company = self.density[index].mean(axis=1)
        chosen = np.lexsort((self.identity.code[rows], -(self.density[rows] + 2 * company)))[: count // 2]
        candidate = np.zeros(self.n, bool)
        candidate[rows[chosen]] = True
        label = components(self.n, *_mutual(rows[chosen], index[chosen], candidate))
        members = [np.flatnonzero((label == one) & candidate) for one in np.unique(label[candidate])]
        aloneness = dict(zip(rows.tolist(), company.tolist(), strict=True))
        found = []
        for group in members:
            if self._pictures(group) < FEWEST:
                continue
            alone = float(np.mean([aloneness[row] for row in group.tolist()]))
            alone /= 1 - np.log(len(group) / self.n)  # what it is if no other row is as alone as these
            if alone >= ALONE[0] and self._guilty(group, alone):
                found.append(self._grown(group))
        return found

    def _grown(self, group: Array) -> Population:
        """A group, all rows half of whose neighbours are of it, and what bears its trait and is alone."""
        inside = np.zeros(self.n, bool)
        inside[group] = True
        asked = group
        for _ in range(ROUNDS):
            asked = np.setdiff1d(self._near(asked), np.flatnonzero(inside))
            if not len(asked):
                break
            asked = asked[inside[self._near(asked)].mean(axis=1) >= 1 / 2]
            if not len(asked):
                break
            inside[asked] = True
        trait = self.discriminant.of(inside)
        alike = self._up_to_change("density", trait, self.density)
        added = np.setdiff1d(np.flatnonzero(inside), group)
        may = np.zeros(0, np.int64)
        if alike:
            added = np.union1d(added, np.setdiff1d(alike.rows[: alike.fewest], group))
            may = np.setdiff1d(alike.rows, np.union1d(added, group))
        rows = np.concatenate([self._highest_first(self.density, part) for part in (group, added, may)])
        return self._of("density", rows, len(group), len(group) + len(added), len(rows), trait)

    def _near(self, rows: Array, k: int = NEIGHBORS) -> Array:
        """The nearest rows by picture and caption of each of these, [len(rows), k]."""
        engine = self.engine.with_k(min(k, self.n - 1))
        return engine.between(as_rows(self._joint(rows)), self._space, rows, np.arange(self.n)).index

    @cached_property
    def _space(self) -> Rows:
        return as_rows([_halved(self._joint(part)) for part in in_steps(np.arange(self.n))])

    def _highest_first(self, values: Array, rows: Array | None = None) -> Array:
        """These rows, or all, by their values [n]; equal ones by their lots, whatever the order of rows."""
        rows = np.arange(self.n) if rows is None else rows
        return rows[np.lexsort((self.identity.code[rows], -values[rows]))]

    def _guilty(self, group: Array, alone: float) -> bool:
        """Whether the witness finds the captions of a group wrong; without pictures, whether it is as alone
        as can be and the witness does not find them right."""
        if self.text is None:
            return alone >= ALONE[1]
        misfit = self._by_picture(group)
        controls = [means[: len(misfit)].mean() for means in self._controls]
        share = (1 + np.sum(np.asarray(controls) >= misfit.mean())) / (1 + len(controls))
        if share <= ALPHA and _null_share(misfit) <= NULL_SHARE:
            return True
        return not self.independent and alone >= ALONE[1] and bool(share <= ACQUITTED)

    @cached_property
    def _controls(self) -> list[Array]:
        """Mean misfit of each distinct picture among the neighbours of rows drawn at random."""
        drawn = self.identity.sample(Scale("controls", CONTROLS, 1), 1, self.seed)
        near = self._near(drawn, 4 * NEIGHBORS)
        return [_mean_by(self.picture[rows], self.misfit[rows]) for rows in near]

    def _by_captions(self, text: Rows) -> list[Population]:
        """Captions that say the same, on pictures that they do not fit."""
        mismatch = neg_log_tail(self.cross_modal + self.misfit)
        candidate = np.zeros(self.n, bool)
        candidate[self._highest_first(mismatch)[: max(FEWEST, round(CANDIDATES * self.n))]] = True
        caption = identify(text, threads=self.engine.threads).content
        first = np.unique(caption, return_index=True)[1]
        hits, rows = np.bincount(caption, candidate), np.bincount(caption)
        asked = np.flatnonzero(hits)  # captions of candidates
        if len(first) < 2:
            return []
        distinct = as_rows([_halved(unit(text.take(part))) for part in in_steps(first)])
        engine = self.engine.with_k(min(NEIGHBORS, len(first) - 1))
        table = engine.between(as_rows(distinct.take(asked)), distinct, asked, np.arange(len(first)))
        near = table.distance <= SAME * self._apart[1]
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
            if self._pictures(members) >= FEWEST:
                one_wording = np.bincount(caption[members]).max() >= ONE_WORDING * len(members)
                if one_wording and self._diversity(members) >= DIVERSE:
                    continue  # boilerplate, which is no poison
                members = self._highest_first(mismatch, members)
                sure = int(candidate[members].sum())
                found.append(self._of("captions", members, sure, len(members), len(members)))
        return found

    def _up_to_change(self, kind: str, trait: Array, evidence: Array) -> Population | None:
        """The rows that bear a trait most, up to where evidence falls to that of clean rows; None for too
        few. Pictures one of whose captions fits are no members."""
        order = self._highest_first(trait)
        if _likelihoods(_Shown.of(self.picture[order], evidence[order]).evidence)[0] < STRENGTH:
            return None  # near-copies would only take from it
        shown = _Shown.of(self._distinct(order), evidence[order])
        strength, total = _likelihoods(shown.evidence)
        if strength < STRENGTH or np.argmax(total) + 1 < FEWEST:
            return None
        members = np.cumsum(~shown.honest)
        fewest, number, most = (int(members[shown.last[end]]) for end in _ends(total))
        return self._of(kind, order[~shown.honest][:most], fewest, number, most, trait)

    def _of(
        self, kind: str, rows: Array, fewest: int, number: int, most: int, trait: Array | None = None
    ) -> Population:
        misfit = self._by_picture(rows[:number])
        figures = (len(misfit), float(misfit.mean()), _null_share(misfit))
        bearing = np.zeros(self.n) if trait is None else neg_log_tail(trait)
        return Population(kind, rows, fewest, number, most, *figures, bearing)

    def _top(self, values: Array) -> Array:
        """The rows of highest value, of copies and near-copies of a picture only the first."""
        first = self._highest_first(values)[: COPIES * self._seeds]
        _, at = np.unique(self._distinct(first), return_index=True)
        chosen = np.zeros(self.n, bool)
        chosen[first[np.sort(at)[: self._seeds]]] = True
        return chosen

    def _copy_bound(self, drawn: Array) -> float:
        """Rows nearer than this by what the witness sees are near-copies (scores/groups.py:SHARE): the
        suspect model draws pictures together that have a trigger in common."""
        k = min(self.engine.k, self.n - 1)
        looks = self.seen.parts[0]
        table = self.engine.with_k(k).between(as_rows(looks.take(drawn)), looks, drawn, np.arange(self.n))
        kdist = table.distance[:, -1]
        return SHARE * float(np.median(kdist[kdist > 0])) if (kdist > 0).any() else 0.0

    def _distinct(self, rows: Array) -> Array:
        """Which picture each of these rows has, near-copies among the first MOST of them taken for one."""
        _, label = np.unique(self.picture[rows], return_inverse=True)
        label = label.ravel()
        _, first = np.unique(label[:MOST], return_index=True)
        if len(first) < 2:
            return label
        k = min(NEIGHBORS, len(first) - 1)
        looks = as_rows(self.seen.parts[0].take(rows[first]))
        table = self.engine.with_k(k).within(looks).map(np.asarray)
        near = (table.distance <= self._copies) & (table.index >= 0)
        a = np.repeat(label[first], k)[near.ravel()]
        b = label[first][table.index.ravel()[near.ravel()]]
        return components(int(label.max()) + 1, a, b)[label]  # type: ignore[no-any-return]

    def _pictures(self, rows: Array) -> int:
        return len(np.unique(self._distinct(rows)))

    def _by_picture(self, rows: Array) -> Array:
        """Mean misfit of each distinct picture among the rows; near-copies are one."""
        return _mean_by(self._distinct(rows), self.misfit[rows])

    def _joint(self, rows: Array) -> Array:
        """Directions of pictures beside those of captions, [len(rows), 2 d], in units of random pairs."""
        picture = unit(self.image.take(rows)) / np.float32(self._apart[0])
        if self.text is None:
            return picture
        return np.hstack([picture, unit(self.text.take(rows)) * np.float32(CAPTION_SCALE / self._apart[1])])


def _whole(found: list[Population]) -> list[Population]:
    """Without populations that are part of another: one kind of poison is found in several ways."""
    kept: list[Population] = []
    for one in sorted(found, key=lambda one: -one.number):
        rows = one.rows[: one.number]
        inside = [np.isin(rows, other.rows[: other.number]).mean() for other in kept]
        if not inside or max(inside) < PART:
            kept.append(one)
    return kept


def _mean_by(label: Array, values: Array) -> Array:
    """Mean of the values of each label."""
    _, of = np.unique(label, return_inverse=True)
    return np.bincount(of.ravel(), values) / np.bincount(of.ravel())  # type: ignore[no-any-return]


def _likelihoods(evidence: Array) -> tuple[float, Array]:
    """Of evidence in the order of a trait: the highest sum of log likelihood ratios, and [m] the sums less
    what they grow by where half of the pictures are planted. They end where these are highest, but how much
    that is depends on the mean of the planted ones: it is found in rounds."""
    ratio = np.log(SHAPE) + (1 - SHAPE) * evidence
    end, before = 2 * FEWEST, 0
    for _ in range(ROUNDS):
        half = np.log(SHAPE) + (1 - SHAPE) * (evidence[:end].mean() + evidence.mean()) / 2
        total = np.cumsum(ratio - max(0.0, half))
        end, before = max(2 * FEWEST, int(np.argmax(total)) + 1), end
        if end == before:
            break
    return float(ratio.cumsum().max()), total


def _ends(total: Array) -> tuple[int, int, int]:
    """The first and the last end that are hardly worse than the best of [m] sums of log likelihoods, and
    between them the posterior mean of all."""
    likely = np.flatnonzero(total >= total.max() - SURE)
    weight = np.exp(total - total.max())
    mean = np.arange(len(total)) @ weight / weight.sum()
    return int(likely[0]), round(float(np.clip(mean, likely[0], likely[-1]))), int(likely[-1])


def _halved(rows: Array) -> Array:
    """Half the memory; of the search for groups, not of a score."""
    return rows.astype(np.float16)


def _null_share(misfit: Array) -> float:
    """Of clean ones half have less than HALF, of planted ones hardly any: an upper estimate (Storey 2002)."""
    return min(1.0, 2 * float((misfit < HALF).mean())) if np.isfinite(misfit).all() else np.nan


def _mutual(rows: Array, index: Array, among: Array) -> tuple[Array, Array]:
    """Edges (a, b) between rows [m], all `among`, that are neighbours of each other: index [m, k]."""
    a, b = np.repeat(rows, index.shape[1]), index.ravel()
    kept = (b >= 0) & among[b]
    a, b = a[kept].astype(np.int64), b[kept].astype(np.int64)
    mutual = np.isin(b * len(among) + a, a * len(among) + b)
    return a[mutual], b[mutual]
