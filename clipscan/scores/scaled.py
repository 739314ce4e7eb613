"""Features of rows on one scale: centred, divided by their standard deviation, outliers cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipscan.engine import Rows
from clipscan.engine.arrays import Array

FITTED = 1 << 15  # rows that means, covariances and fits are made of, at most
STEP = 1 << 11  # rows at once: float64, they stay in the caches of a core
SPREAD = 1e-3  # added to a standard deviation: a feature that never changes says nothing
DIGITS = 6  # behind the point that are kept
HELD = 3 << 30  # bytes of scaled features that are kept
LARGEST = 4.0  # standard deviations: one odd picture must not turn a direction
LEVELS = 1 << 13  # of a standard deviation; LARGEST of them fit into 16 bits


@dataclass
class Scaled:
    """Several arrays of features of the same n rows, side by side: [n, d]. `fitted`: the rows whose means and
    deviations count."""

    parts: Sequence[Rows]
    fitted: Array
    mean: Array = field(init=False)  # [d]
    deviation: Array = field(init=False)  # [d]

    def __post_init__(self) -> None:
        self.n, self.d = self.parts[0].n, sum(part.d for part in self.parts)
        total = np.zeros((2, self.d))
        for rows in in_steps(self.fitted):
            x = self._raw(rows)
            total += [x.sum(axis=0), np.einsum("np,np->p", x, x)]
        self.mean, square = total / max(1, len(self.fitted))
        self.deviation = np.sqrt(np.maximum(square - self.mean**2, 0.0)) + SPREAD
        self._held = None
        if 2 * self.n * self.d <= HELD:
            self._held = np.empty((self.n, self.d), np.int16)
            for rows in in_steps(np.arange(self.n)):
                self._held[rows] = self._scaled(rows)

    def take(self, rows: Array) -> Array:
        """The numbered rows, float64 [len(rows), d], in LEVELS of a standard deviation."""
        found = (self._scaled(rows) if self._held is None else self._held[rows]).astype(np.float64)
        found *= 1 / LEVELS
        return found

    def _scaled(self, rows: Array) -> Array:
        value = self._raw(rows)
        value -= self.mean
        value /= self.deviation
        np.clip(value, -LARGEST, LARGEST, out=value)
        value *= LEVELS
        return np.minimum(np.rint(value, out=value), LARGEST * LEVELS - 1, out=value).astype(np.int16)

    def _raw(self, rows: Array) -> Array:
        found = np.empty((len(rows), self.d))
        np.concatenate([part.take(rows) for part in self.parts], axis=1, out=found)
        return found


def fitted_rows(lot: Array, content: Array | None = None) -> Array:
    """The FITTED rows of smallest lot [n], or all, one of each content [n]; by their lot: sums do not depend
    on the order of rows, nor on how often one occurs."""
    order = np.argsort(lot, kind="stable")
    if content is not None:
        order = order[np.sort(np.unique(content[order], return_index=True)[1])]
    return order[:FITTED]


def settled(values: Array) -> Array:
    """Values without the digits that the order of a sum decides, which is another on other machines."""
    return np.round(values, DIGITS)


def in_steps(rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), STEP):
        yield rows[start : start + STEP]
