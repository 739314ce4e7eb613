"""consensus: clipscan's own score, and its default. Suspicious by itself and by the company it keeps.

No single sign sees all poison: what a model has learnt stands alone among pictures (density), what it has
not learnt is a wrong caption (agree, cross), and how large a reference may be depends on the unknown share
of poison. But whoever plants a backdoor plants many pairs whose captions say the same, so a pair is judged
by its own signs and by those of its neighbours:

1. Signs. Eight draws of three sizes, 8k, 32k and 128k rows (128, 512 and 2,048 at k = 16: p R / k stays
   below 0.4 at one of them up to p = 5 %), give kdist, dao, lof and slof, and with captions agree and cross.
2. Surprise of a value = -ln of the share of all rows that are as high: 0 for the lowest, ln n for the
   highest. Alone = surprise of the mean surprise of the density signs, each weighted by the root of its
   size, as more rows tell a density more finely; mismatched = that of the plain mean of the cross-modal ones.
3. Crowd. Where rows as alone as this one are more than CROWDED times as common among captions like its own
   as they are everywhere, alone grows by CROWD_WEIGHT x ln of what exceeds that: one odd ship is an odd
   ship, two hundred are a backdoor. Either = (crowded^4 + mismatched^4)^(1/4), close to the larger of both.
4. Two companies. Among rows with captions like its own: either + CAPTION_WEIGHT x what their mean `either`
   exceeds the usual by, the USUAL quantile of such means. Among rows whose captions and pictures are both
   like its own: alone + PAIR_WEIGHT x their mean `alone`. The first finds a target that nobody else names,
   learnt or not, the second a learnt one among clean pairs of its name. Without captions there are density
   signs and nearest pictures only.
5. consensus = the larger of the two, each with its median at 0 and its 10th and 90th percentile 1 apart.

Surprises and company are taken among at most COMPANY rows, drawn as references are (up to that number: all
of them), so that the cost stays linear in n. How it was chosen and what it misses: docs/results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array, unit
from clipscan.scores.captions import NEIGHBORS, Areas, Captions
from clipscan.scores.groups import typical_distance
from clipscan.scores.local import Engine
from clipscan.scores.references import Identity, Scale, identify
from clipscan.scores.scorer import Columns, Scorer, in_slices

DENSITY, CROSS_MODAL = ("kdist", "dao", "lof", "slof"), ("agree", "cross")
SIZES, DRAWS = (8, 32, 128), 8  # reference rows in units of k; draws of each
COMPANY = 1 << 16
CROWDED, CROWD_WEIGHT = 1.5, 4.0
CAPTION_WEIGHT, PAIR_WEIGHT = 6.0, 2.0
USUAL = 0.8  # poison, above it, may be a fifth of all rows
# Captions a third as far apart as two random ones count as much as pictures that are strangers.
CAPTION_SCALE = 3.0
STEP = 1 << 14  # rows whose joint vectors are made at once
SAMPLED = 4096  # rows, by twos, that say how far apart strangers are


class Own(NamedTuple):
    """Surprises of rows, [n] each; `either` is `alone` where there are no captions."""

    alone: Array
    either: Array


class Suspicion(NamedTuple):
    """Own surprise of rows, and the mean of their company's, [n] each."""

    own: Array
    company: Array


@dataclass
class Consensus:
    """The score of n image rows and, where given, their captions. Same inputs as Scorer."""

    image: Rows
    text: Rows | None
    identity: Identity
    engine: Engine
    seed: int = 0
    rows: Array = field(init=False)  # of the company, in hash order; all rows in their order if they fit

    def __post_init__(self) -> None:
        k, n = self.engine.k, self.image.n
        scales = [Scale(f"{size * k}x{DRAWS}", size * k, DRAWS) for size in SIZES]
        self._size = {scale.name: scale.rows for scale in scales}
        methods = DENSITY + (CROSS_MODAL if self.text else ())
        self._signs = Scorer(
            self.image, self.text, self.identity, methods, scales, self.engine, seed=self.seed
        )
        company = Scale("company", COMPANY, 1)
        self._whole = not company.fits(n)
        self.rows = np.arange(n) if self._whole else self.identity.sample(company, 0, self.seed)
        signs = in_slices(self._signs.columns, self.image)[0] if self._whole else self._signs.of(self.rows)
        self._known = {name: np.sort(values) for name, values in signs.items()}
        means = self._mean_surprises(signs)
        self._means = [np.sort(mean) for mean in means]
        self._place = np.full(n, -1)  # of each row in the company
        self._place[self.rows] = np.arange(len(self.rows))
        self._areas, self._captions = None, None
        if self.text:
            said = identify(self.text, threads=self.engine.threads).group
            alone = surprise(means[0], self._means[0])
            self._areas = Areas.among(
                self.text, said, self.rows, alone, self.identity, self.engine, self.seed
            )
        self._own = self._own_by(means, self.rows)
        if self.text:
            self._captions = Captions.among(self.text, said, self.rows, self._own.either, self.engine)
        self._groups = self.identity.group if self._whole else self.identity.of_sample(self.rows)
        self._strangers()
        self._company = as_rows(self._joint(self.rows))
        of_pairs, of_captions = self._suspicions(self.rows)
        self._usual = 0.0 if of_captions is None else float(np.quantile(of_captions.company, USUAL))
        self._units = [units(sums) for sums in self._sums(of_pairs, of_captions)]

    @property
    def most_copies(self) -> int:
        return self._signs.most_copies

    def column(self, start: int, stop: int) -> Array:
        """consensus of rows [start, stop), float64 [stop - start]."""
        sums = self._sums(*self._suspicions(np.arange(start, stop)))
        return np.max([(c - zero) / one for c, (zero, one) in zip(sums, self._units, strict=True)], axis=0)

    def _sums(self, of_pairs: Suspicion, of_captions: Suspicion | None) -> list[Array]:
        sums = [of_pairs.own + PAIR_WEIGHT * of_pairs.company]
        if of_captions is not None:
            excess = np.maximum(0.0, of_captions.company - self._usual)
            sums.append(of_captions.own + CAPTION_WEIGHT * excess)
        return sums

    def _suspicions(self, rows: Array) -> tuple[Suspicion, Suspicion | None]:
        """By pairs, and where there are captions by captions, of the numbered rows."""
        parts = [self._suspicion(rows[at : at + STEP]) for at in range(0, len(rows), STEP)]
        joined = [
            Suspicion(*map(np.concatenate, zip(*column, strict=True))) for column in zip(*parts, strict=True)
        ]
        return joined[0], joined[1] if len(joined) > 1 else None

    def _suspicion(self, rows: Array) -> list[Suspicion]:
        own = self._own_of(rows)
        index = self.engine.with_k(min(NEIGHBORS, self._company.n - 1)).between(
            as_rows(self._joint(rows)), self._company, self.identity.group[rows], self._groups
        ).index  # fmt: skip
        found = [Suspicion(own.alone, mean_of(self._own.alone, index))]
        if self._captions is not None:
            met = np.where(self._place[rows] >= 0, own.either, np.nan)
            found.append(Suspicion(own.either, self._captions.of(rows, met)))
        return found

    def _own_of(self, rows: Array) -> Own:
        place = self._place[rows]
        if (place >= 0).all():
            return Own(*(column[place] for column in self._own))
        return self._own_by(self._mean_surprises(self._signs.of(rows)), rows)

    def _own_by(self, means: tuple[Array, Array], rows: Array) -> Own:
        """Of the numbered rows, by their mean surprises."""
        alone, mismatched = (surprise(mean, known) for mean, known in zip(means, self._means, strict=True))
        if self._areas is None:
            return Own(alone, alone)
        crowding = self._areas.crowding(rows, alone, self._place[rows] >= 0)
        crowded = alone + CROWD_WEIGHT * np.maximum(0.0, crowding - np.log(CROWDED))
        return Own(alone, (crowded**4 + mismatched**4) ** 0.25)

    def _mean_surprises(self, signs: Columns) -> tuple[Array, Array]:
        """Of the density signs and of the cross-modal ones (0 where there are no captions), [n] each."""
        alone, mismatched = np.zeros((2, len(next(iter(signs.values())))))
        for total, family, power in ((alone, DENSITY, 0.5), (mismatched, CROSS_MODAL, 0.0)):
            names = [name for name in signs if _plain(name) in family]
            if names:
                found = [surprise(signs[name], self._known[name]) for name in names]
                weights = [self._size[name.partition("@")[2]] ** power for name in names]
                total += np.average(found, axis=0, weights=weights)
        return alone, mismatched

    def _strangers(self) -> None:
        """How far apart two random rows are, by picture and by caption: the units of the joint space."""
        drawn = self.identity.sample(Scale("strangers", SAMPLED, 1), 0, self.seed)
        self._apart = [
            typical_distance(rows.take(drawn)) for rows in (self.image, self.text) if rows is not None
        ]

    def _joint(self, rows: Array) -> Array:
        """Directions of the pictures [n, d]; with captions also theirs, CAPTION_SCALE as large: [n, 2 d]."""
        picture = unit(self.image.take(rows)) / np.float32(self._apart[0])
        if self.text is None:
            return picture
        caption = unit(self.text.take(rows)) * np.float32(CAPTION_SCALE / self._apart[1])
        return np.hstack([picture, caption])


def units(sums: Array) -> tuple[float, float]:
    """(median, distance of the 10th and the 90th percentile; 1 if they coincide)."""
    low, median, high = np.quantile(sums, [0.1, 0.5, 0.9])
    return float(median), float(high - low) or 1.0


def surprise(values: Array, known: Array) -> Array:
    """-ln of the share of `known` (sorted ascending) that is at least as high, for each value; with half a
    row added, so that the highest of all is finite. NaN has none: 0."""
    above = len(known) - np.searchsorted(known, values, side="left")
    return np.where(np.isnan(values), 0.0, -np.log((above + 0.5) / (len(known) + 0.5)))


def mean_of(values: Array, index: Array) -> Array:
    """Mean of values[index] along each row of [n, k], "nobody" (-1) left out; 0 where nobody is left."""
    there = index >= 0
    total = np.where(there, values[index], 0.0).sum(axis=1)
    return total / np.maximum(there.sum(axis=1), 1)


def _plain(name: str) -> str:
    return name.partition("@")[0]
