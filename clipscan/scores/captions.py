"""What the captions of a dataset say about its rows: who says nearly the same, and what is usual there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array, unit
from clipscan.scores.local import Engine
from clipscan.scores.references import Identity, Scale

NEIGHBORS = 16  # rows of a company
AREAS, DRAWS = 64, 8  # captions that are drawn to part all others into areas, and how often that is done
PRIOR = 2.0  # rows added to both counts of an area, so that few rows prove little


@dataclass
class Captions:
    """The distinct captions of the company, each with the number and the own surprise of its rows."""

    text: Rows
    group: Array  # [n] which caption each row of the dataset has
    slot: Array  # group -> its place among the distinct captions of the company, -1 for none
    vectors: Rows  # [u, d] the distinct captions, of unit length
    count: Array  # [u]
    total: Array  # [u]
    engine: Engine

    @classmethod
    def among(cls, text: Rows, group: Array, rows: Array, own: Array, engine: Engine) -> Captions:
        distinct, first, inverse, count = np.unique(
            group[rows], return_index=True, return_inverse=True, return_counts=True
        )
        slot = np.full(group.max() + 1, -1)
        slot[distinct] = np.arange(len(distinct))
        vectors = as_rows(unit(text.take(rows[first])))
        return cls(text, group, slot, vectors, count, np.bincount(inverse.ravel(), own), engine)

    def of(self, rows: Array, own: Array) -> Array:
        """Mean own surprise of the rows with the nearest captions, as many captions as it takes to meet
        NEIGHBORS rows. own: that of the numbered rows which belong to the company, to be left out; else NaN.
        """
        captions, first, inverse = np.unique(self.group[rows], return_index=True, return_inverse=True)
        queries = as_rows(unit(self.text.take(rows[first])))
        # A row is met at most once in its own caption, so NEIGHBORS + 1 captions hold NEIGHBORS others.
        engine = self.engine.with_k(min(NEIGHBORS + 1, self.vectors.n))
        index = engine.between(queries, self.vectors, None, None).index  # [captions here, k]
        count = self.count[index]
        met = np.cumsum(count, axis=1) - count <= NEIGHBORS  # the captions before it held too few
        total = (self.total[index] * met).sum(axis=1)[inverse]
        others = (count * met).sum(axis=1)[inverse]
        # Another caption of the same direction may come before its own, which is then not always met.
        at_home = ((index == self.slot[captions][:, None]) & met).any(axis=1)[inverse]
        itself = at_home & ~np.isnan(own)
        return (total - np.where(itself, own, 0.0)) / np.maximum(others - itself, 1)


@dataclass
class Areas:
    """Captions parted by which of AREAS drawn ones is nearest, DRAWS times anew; in each area, the surprises
    of the company's rows in ascending order."""

    text: Rows
    group: Array  # [n] which caption each row of the dataset has
    anchors: list[Rows]  # of each draw [AREAS, d], of unit length
    known: list[list[Array]]  # of each draw and area
    engine: Engine

    @classmethod
    def among(
        cls, text: Rows, group: Array, rows: Array, own: Array, identity: Identity, engine: Engine, seed: int
    ) -> Areas:
        scale = Scale("areas", AREAS, DRAWS)
        drawn = [identity.sample(scale, draw, seed)[:AREAS] for draw in range(DRAWS)]
        anchors = [as_rows(unit(text.take(one))) for one in drawn]
        made = cls(text, group, anchors, [], engine.with_k(1))
        made.known = [
            [np.sort(own[area == number]) for number in range(there.n)]
            for area, there in zip(made._areas(rows), anchors, strict=True)
        ]
        return made

    def crowding(self, rows: Array, own: Array, inside: Array) -> Array:
        """ln of how many times as many rows of a row's area are as surprising as it is as are of all rows:
        the mean over the draws, float64 [len(rows)]. own: the surprises of the numbered rows; inside:
        whether they belong to the company, where nobody counts himself.
        """
        expected = np.exp(-own)  # the share of all rows that is as surprising
        total = np.zeros(len(rows))
        for area, known in zip(self._areas(rows), self.known, strict=True):
            met, held = np.zeros(len(rows)), np.zeros(len(rows))
            for number in np.unique(area):
                here = area == number
                held[here] = len(known[number])
                met[here] = len(known[number]) - np.searchsorted(known[number], own[here], side="left")
            total += np.log((met - inside + PRIOR) / (held * expected + PRIOR))
        return total / len(self.known)

    def _areas(self, rows: Array) -> list[Array]:
        """Which anchor is nearest to each numbered row's caption, for each draw."""
        _, first, inverse = np.unique(self.group[rows], return_index=True, return_inverse=True)
        queries = as_rows(unit(self.text.take(rows[first])))
        return [
            self.engine.between(queries, there, None, None).index[:, 0][inverse] for there in self.anchors
        ]
