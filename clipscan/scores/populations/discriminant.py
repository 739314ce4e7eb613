"""A trait: what the pictures of some rows have in common that others have not, such as a trigger.

Whatever a trigger is, every picture that bears it bears it, under whatever captions: Fisher's linear
discriminant (1936) of suspicious rows against all finds it among features of pictures, though only some of
the suspicious are poison. Of FOLDS folds each is judged by what the others taught, and all copies of a
picture are in one fold: so no row is near the suspicious merely because it was one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.scaled import Scaled, in_steps, settled

FOLDS = 5
AGAIN = 3  # times that a trait is learnt anew from those that bear it
SHRINKAGE = 0.1  # of the covariance towards a multiple of one, in units of the mean variance


@dataclass
class Discriminant:
    """Linear discriminants among the same features. picture [n] int64: which picture a row has; lot [n]."""

    features: Scaled
    picture: Array
    lot: Array
    fold: Array = field(init=False)  # [n]
    inverse: Array = field(init=False)  # [d, d], of the covariance

    def __post_init__(self) -> None:
        first = np.full(int(self.picture.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(first, self.picture, self.lot)  # of the copies of a picture
        self.fold = ((first >> np.uint64(11)) % np.uint64(FOLDS)).astype(np.int64)[self.picture]
        self._rows = [np.flatnonzero(self.fold == fold) for fold in range(FOLDS)]
        covariance = np.zeros((self.features.d, self.features.d))
        rows = self.features.fitted
        for part in in_steps(rows):
            x = self.features.take(part)
            covariance += x.T @ x
        covariance /= max(1, len(rows))
        size = SHRINKAGE * np.trace(covariance) / len(covariance) or 1.0
        self.inverse = np.linalg.inv(covariance + size * np.eye(len(covariance)))

    def of(self, chosen: Array) -> Array:
        """How far each row is on the side of the `chosen` ([n] bool), float64 [n]; all rows of a fold without
        any chosen one elsewhere have 0. Folds are brought to one scale by their medians and deviations."""
        return self.each([chosen])[0]

    def each(self, chosen: Sequence[Array]) -> Array:
        """The same of several, [len(chosen), n], in one pass over the features."""
        axes = np.stack([self._axes(one) for one in chosen], axis=2)  # [FOLDS, d, t]
        found = np.empty((len(chosen), self.features.n))
        for axis, rows in zip(axes, self._rows, strict=True):
            if not len(rows):
                continue
            here = np.concatenate([self.features.take(part) @ axis for part in in_steps(rows)]).T
            low, median, high = np.quantile(here, [0.16, 0.5, 0.84], axis=1)
            scale = (high - low) / 2
            found[:, rows] = (here - median[:, None]) / np.where(scale > 0, scale, 1.0)[:, None]
        return settled(found)

    def _axes(self, chosen: Array) -> Array:
        """For the rows of each fold, what the chosen of the others taught: [FOLDS, d]."""
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(self.lot[rows], kind="stable")]
        total, count = np.zeros((FOLDS, self.features.d)), np.bincount(self.fold[rows], minlength=FOLDS)
        for part in in_steps(rows):
            x = self.features.take(part)
            for fold in range(FOLDS):
                total[fold] += x[self.fold[part] == fold].sum(axis=0)
        others = count.sum() - count
        means = (total.sum(axis=0) - total) / np.maximum(others, 1)[:, None]  # all others' mean is 0
        return means @ self.inverse  # type: ignore[no-any-return]


def bearing(trait: Array, chosen: Array) -> Array:
    """Which rows bear a trait [n] at least half as much as the `chosen` do in median, [n] bool."""
    median = np.median(trait[chosen])
    return trait >= min(median, median / 2)  # type: ignore[no-any-return]
