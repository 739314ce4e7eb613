"""misfit: does a caption fit its picture, in the eyes of a witness that cannot have learnt the trigger?

A model that was trained on poisoned pairs finds a trigger and its caption well matched. The witness is a
ridge regression from picture features to caption vectors, fitted without the pairs that it is asked about:

1. Features are those of an untrained network where pictures are at hand (embed/untrained.py), else the
   suspect model's own image vectors, which still show what else is in a picture. Pictures that differ from
   the mean by more than is usual are brought back to a mean square of 1: a linear fit foretells too much of
   extreme ones, and would find the captions of all of them wrong. Captions are the model's caption vectors,
   of unit length and centred.
2. Each of FOLDS folds is predicted from the others (cross-fitting), and rows that are not trusted are in no
   fit at all: a planted group that is left out as a whole has taught the witness nothing.
3. Predicted and true caption vectors are taken for jointly Gaussian, by their canonical correlations
   (Hotelling 1936). misfit = minus their pointwise mutual information: how much less likely the caption is
   beside this picture than by itself, in nats.

Whom to trust goes in rounds, as in least trimmed squares (Rousseeuw 1984): `trimmed` leaves out the TRIMMED
most suspicious rows, asks the witness, and judges anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from clipscan.engine import Rows
from clipscan.engine.arrays import Array, unit
from clipscan.scores.scaled import Scaled, in_steps, settled

FOLDS = 5
RIDGE = 0.1  # in units of the mean variance of the features
SHRINKAGE = 1.0  # of the covariances of captions and predictions, likewise
TRIMMED, ROUNDS = 0.2, 3
CLOSEST = 0.99  # canonical correlations are cut off here
TOLD = 0.99  # share of the mutual information that the directions have which are kept, the closest first


@dataclass
class Witness:
    """Pairs of picture features and caption vectors [n, q]. lot [n] uint64 deals rows to folds; those
    that the features were fitted on make the fits."""

    features: Scaled
    captions: Rows
    lot: Array
    fold: Array = field(init=False)  # [n]
    fitted: Array = field(init=False)  # [n] whether a row may be in a fit
    trusted: Array = field(init=False)  # [n] those that were, after `trimmed`
    _of_trusted: Array = field(init=False)  # their second moments, by fold

    def __post_init__(self) -> None:
        self._order = rows = self.features.fitted
        self.fold = ((self.lot >> np.uint64(7)) % np.uint64(FOLDS)).astype(np.int64)
        self.fitted = np.zeros(len(self.lot), bool)
        self.fitted[rows] = True
        total = sum(unit(self.captions.take(part)).sum(axis=0, dtype=np.float64) for part in in_steps(rows))
        self._usual = total / max(1, len(rows))
        self._moments = self._sum(rows)

    def trimmed(self, suspicion: Callable[[Array, Array | None], Array]) -> Array:
        """misfit [n] after ROUNDS of trimming; suspicion(rows, their misfit so far, None at first) says how
        suspicious those rows are that make the fits, [len(rows)]."""
        found = None
        for left in reversed(range(ROUNDS)):
            value = suspicion(self._order, found)
            self.trusted = np.zeros(len(self.lot), bool)
            self.trusted[self._order] = value < np.quantile(value, 1 - TRIMMED)
            self._of_trusted = self._of(self.trusted)
            found = self._judged(self._of_trusted, self.trusted, self._order if left else None)
        assert found is not None
        return found

    def without(self, chosen: Array, rows: Array) -> Array:
        """misfit of these rows, float64 [len(rows)], by fits on those that `trimmed` trusted last but
        for the `chosen` ([n] bool)."""
        moments = self._of_trusted - self._sum(self._order[(self.trusted & chosen)[self._order]])
        return self._judged(moments, self.trusted & ~chosen, rows)

    def misfit(self, trusted: Array, rows: Array | None = None) -> Array:
        """Of these rows, or of all, float64 [len(rows)], by fits on those `trusted` ([n] bool) of the other
        folds."""
        return self._judged(self._of(trusted), trusted, rows)

    def _of(self, trusted: Array) -> Array:
        """Second moments, by fold, of those `trusted` that make the fits."""
        return self._moments - self._sum(self._order[~trusted[self._order]])

    def _judged(self, moments: Array, trusted: Array, rows: Array | None) -> Array:
        """The same by the second moments [FOLDS, p + q, p + q] of those who are trusted."""
        rows = np.arange(self.features.n) if rows is None else rows
        count = np.bincount(self.fold[self.fitted & trusted], minlength=FOLDS)
        fits = [_fit(moments.sum(axis=0) - own, self.features.d) for own in moments]
        shown = np.array([_shown(*pair, self.features.d) for pair in zip(fits, moments, strict=True)])
        views = [
            _view(shown.sum(axis=0) - shown[fold], count.sum() - count[fold], fits[fold])
            for fold in range(FOLDS)
        ]
        found = np.empty(len(rows))
        for fold, at in self._by_fold(rows):
            both = self._pair(rows[at])
            found[at] = -views[fold].information(both[:, : self.features.d], both[:, self.features.d :])
        return settled(found)

    def canonical(self, count: int) -> Array:
        """What pictures show that captions speak of: the first canonical variates of each, by one fit on
        those whom `trimmed` trusted last, float64 [n, count or fewer] of variance 1."""
        moments = self._of_trusted.sum(axis=0)
        fit = _fit(moments, self.features.d)
        trusted = int((self.fitted & self.trusted).sum())
        view = _view(_shown(fit, moments, self.features.d), trusted, fit)
        seen = view.seen[:, np.argsort(-view.correlation, kind="stable")[:count]]
        found = np.concatenate(
            [self.features.take(part) @ seen for part in in_steps(np.arange(len(self.lot)))]
        )
        return settled(found / np.maximum(found[self._order].std(axis=0), 1e-12))

    def _pair(self, rows: Array) -> Array:
        """Features beside captions of these rows, [len(rows), p + q]."""
        both = np.empty((len(rows), self.features.d + self.captions.d))
        x, y = both[:, : self.features.d], both[:, self.features.d :]
        x[:] = self.features.take(rows)
        x /= np.maximum(1.0, np.sqrt(np.einsum("np,np->n", x, x) / self.features.d))[:, None]
        np.subtract(unit(self.captions.take(rows)), self._usual, out=y)
        return both

    def _by_fold(self, rows: Array) -> Iterator[tuple[int, Array]]:
        """(fold, which of these rows, a step of those of this fold)."""
        for fold in range(FOLDS):
            for at in in_steps(np.flatnonzero(self.fold[rows] == fold)):
                yield fold, at

    def _sum(self, rows: Array) -> Array:
        """Second moments of features beside captions of these rows, by fold: [FOLDS, p + q, p + q]."""
        width = self.features.d + self.captions.d
        total = np.zeros((FOLDS, width, width))
        for fold, at in self._by_fold(rows):
            both = self._pair(rows[at])
            total[fold] += both.T @ both
        return total


class _View(NamedTuple):
    """Canonical directions of features and captions, and how far the two agree in each."""

    seen: Array  # [p, r]
    said: Array  # [q, r]
    correlation: Array  # [r]

    def information(self, x: Array, y: Array) -> Array:
        """Pointwise mutual information of rows x [m, p] and y [m, q]: [m]."""
        a, b = x @ self.seen, y @ self.said
        left = 1 - self.correlation**2
        together = (a * b) @ (self.correlation / left)
        a *= a
        b *= b
        a += b
        apart = a @ (self.correlation**2 / (2 * left))
        return together - apart - np.log(left).sum() / 2  # type: ignore[no-any-return]


def _fit(moments: Array, p: int) -> Array:
    """The regression [p, q]."""
    size = RIDGE * np.trace(moments[:p, :p]) / p or 1.0
    return np.linalg.solve(moments[:p, :p] + size * np.eye(p), moments[:p, p:])  # type: ignore[no-any-return]


def _shown(fit: Array, moments: Array, p: int) -> Array:
    """Of a fold's moments by what is foretold of it: [3, q, q] of the foretold, of those beside the true
    captions, and of these."""
    return np.array([fit.T @ moments[:p, :p] @ fit, fit.T @ moments[:p, p:], moments[p:, p:]])


def _view(shown: Array, count: int, fit: Array) -> _View:
    """For the rows of a fold, by what was foretold in the others (`_shown`, of `count` rows)."""
    foretold, joint, said = shown / max(1, count)
    left, right = _whitening(foretold), _whitening(said)
    u, correlation, v = _singular(left @ joint @ right.T)
    correlation = np.minimum(correlation, CLOSEST)
    told = np.cumsum(-np.log(1 - correlation**2))
    kept = 1 + int(np.searchsorted(told, TOLD * told[-1]))
    return _View(fit @ (left.T @ u[:, :kept]), right.T @ v[:kept].T, correlation[:kept])


def _singular(matrix: Array) -> tuple[Array, Array, Array]:
    """u, s, vt of a finite matrix [q, q], s descending, by the eigenvectors of its square: less than half the
    time of LAPACK's divide and conquer on the matrix itself, which gives up on some of many singular values
    near 0 (OpenBLAS, issue 3044). Vectors vt of singular values near 0 are not orthonormal."""
    u = np.linalg.eigh(matrix @ matrix.T)[1]
    v = matrix.T @ u
    s = np.linalg.norm(v, axis=0)  # closer than the root of an eigenvalue
    order = np.argsort(-s, kind="stable")
    return u[:, order], s[order], (v[:, order] / np.where(s > 0, s, 1.0)[order]).T


def _whitening(covariance: Array) -> Array:
    """[q, q]: W with W C W^T = 1 of a covariance that is shrunk towards a multiple of one. Canonical
    correlations are the same by every such W, and a triangular one is the quickest."""
    size = abs(SHRINKAGE * np.trace(covariance) / len(covariance)) or 1.0
    try:
        root = np.linalg.cholesky(covariance + size * np.eye(len(covariance)))
    except np.linalg.LinAlgError:  # rounding errors and nothing else, as of rows that are all equal
        values, vectors = np.linalg.eigh(covariance)
        return (vectors / np.sqrt(np.maximum(values, 0.0) + size)) @ vectors.T  # type: ignore[no-any-return]
    return np.linalg.inv(root)  # type: ignore[no-any-return]
