"""How well a column of scores finds what is known to be there. Higher = more suspicious; ties share alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipscan.errors import InputError

Floats = NDArray[np.float64]


def auroc(scores: ArrayLike, truth: ArrayLike) -> float:
    """Probability that a random true row scores above a random other one, ties counting half.

    scores [n], truth [n] of bool. The order of tied rows is irrelevant. InputError when a score is NaN or
    when one of the two classes is empty. Mann-Whitney's U over ranks, ties at their average.
    """
    values, true = _checked(scores, truth)
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(size)
    rank = (last - (size - 1) / 2)[group]  # 1..n, average within a tie
    positives = int(true.sum())
    return float((rank[true].sum() - positives * (positives + 1) / 2) / (positives * (len(true) - positives)))


def average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Sum of precision * gain in recall over the distinct scores, highest first; a tie is one step.

    Same inputs and errors as auroc. Equals the prevalence when all scores tie.
    """
    found, taken = _curve(*_checked(scores, truth))
    gain = np.diff(found, prepend=0.0) / found[-1]
    return float((gain * found / taken).sum())


def recall_at(scores: ArrayLike, truth: ArrayLike, share: float) -> float:
    """Part of the true rows among the floor(share * n) most suspicious (at least one).

    Where the limit falls into a tie, the expected part of it counts: a constant column has recall `share`.
    """
    values, true = _checked(scores, truth)
    removed = max(1, int(share * len(values) + 1e-9))  # 0.29 * 100 is 28.999... in binary
    found, taken = _curve(values, true)
    hit = np.interp(removed, np.concatenate([[0.0], taken]), np.concatenate([[0.0], found]))
    return float(hit / found[-1])


def fpr_at(scores: ArrayLike, truth: ArrayLike, tpr: float) -> float:
    """False positive rate at a true positive rate: the part of the other rows at or above the highest score
    that at least `tpr` of the true rows reach. Rows that tie go together.

    Same inputs and errors as auroc.
    """
    values, true = _checked(scores, truth)
    found, taken = _curve(values, true)
    at = int(np.argmax(found >= tpr * found[-1] - 1e-9))
    return float((taken[at] - found[at]) / (taken[-1] - found[-1]))


def _curve(values: Floats, true: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(true rows, all rows) at or above each distinct score, highest first."""
    _, group, size = np.unique(-values, return_inverse=True, return_counts=True)
    return np.cumsum(np.bincount(group, weights=true)), np.cumsum(size).astype(np.float64)


def _checked(scores: ArrayLike, truth: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    values, true = np.asarray(scores, np.float64), np.asarray(truth, np.bool_)
    if values.ndim != 1 or values.shape != true.shape:
        raise InputError(f"scores and truth must be [n] each, got {values.shape} and {true.shape}")
    if np.isnan(values).any():
        raise InputError(f"score of row {int(np.isnan(values).argmax())} is NaN; drop such rows first")
    if true.all() or not true.any():
        raise InputError(f"{int(true.sum())} of {len(true)} rows are true: nothing to tell apart")
    return values, true
