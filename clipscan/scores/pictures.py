"""Which rows show the same picture, near-copies taken for one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array
from clipscan.scores.groups import SHARE, components
from clipscan.scores.local import Searcher

MOST = 1 << 14  # rows at a time whose near-copies are looked for
NEIGHBORS = 16


@dataclass
class Pictures:
    """content [n] int64: equal for equal pictures. looks [n, d]: what they look like to whom no caption has
    taught anything; a suspect model draws pictures together that have a trigger in common. drawn: rows that
    say how far apart neighbours usually are; rows nearer than SHARE of that are near-copies."""

    content: Array
    looks: Rows
    searcher: Searcher
    drawn: Array

    def __post_init__(self) -> None:
        k = min(self.searcher.k, self.looks.n - 1)
        drawn = as_rows(self.looks.take(self.drawn))
        every = np.arange(self.looks.n)
        kdist = self.searcher.with_k(k).between(drawn, self.looks, self.drawn, every).distance[:, -1]
        self._bound = SHARE * float(np.median(kdist[kdist > 0])) if (kdist > 0).any() else 0.0

    def distinct(self, rows: Array, most: int = MOST) -> Array:
        """Which picture each of these rows has, near-copies among the first `most` of them taken for one."""
        _, label = np.unique(self.content[rows], return_inverse=True)
        label = label.ravel()
        _, first = np.unique(label[: min(most, MOST)], return_index=True)
        if len(first) < 2:
            return label
        k = min(NEIGHBORS, len(first) - 1)
        table = self.searcher.with_k(k).within(as_rows(self.looks.take(rows[first]))).map(np.asarray)
        near = (table.distance <= self._bound) & (table.index >= 0)
        a = np.repeat(label[first], k)[near.ravel()]
        b = label[first][table.index.ravel()[near.ravel()]]
        return components(int(label.max()) + 1, a, b)[label]  # type: ignore[no-any-return]

    def first(self, rows: Array) -> Array:
        """Of the rows of each picture the first."""
        return rows[np.sort(np.unique(self.distinct(rows), return_index=True)[1])]

    def count(self, rows: Array) -> int:
        return len(np.unique(self.distinct(rows)))

    def mean(self, rows: Array, values: Array) -> Array:
        """Mean of the values [n] of each picture among these rows."""
        return mean_by(self.distinct(rows), values[rows])


def mean_by(label: Array, values: Array) -> Array:
    """Mean of the values of each label."""
    _, of = np.unique(label, return_inverse=True)
    return np.bincount(of.ravel(), values) / np.bincount(of.ravel())  # type: ignore[no-any-return]
