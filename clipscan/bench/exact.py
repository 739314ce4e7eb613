"""What an answer is worth: neighbours against float64 brute force, scores against another library's."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

TIE = 1e-6  # relative: a neighbour this little farther than the exact k-th is a tie of float32 rows
SPARE = 8  # candidates beyond k that the direct form ranks
QUERIES = 64  # rows compared at once


def exact_kth(x: Array, rows: Array, k: int) -> Array:
    """Distance from each of `rows` (numbers) to the k-th nearest other row of x [n, d], float64 [len(rows)].

    The expanded form |y|^2 - 2xy chooses k + 8 candidates; the direct one ranks them, right also near 0.
    """
    wide = x.astype(np.float64)
    square = np.einsum("nd,nd->n", wide, wide)
    count = min(k + SPARE, len(x) - 1)
    kth = []
    for start in range(0, len(rows), QUERIES):
        block = rows[start : start + QUERIES]
        near = square - 2 * (wide[block] @ wide.T)  # [queries, n]
        near[np.arange(len(block)), block] = np.inf
        index = np.argpartition(near, count - 1, axis=1)[:, :count]
        kth.append(np.sort(_distance(x, block, index), axis=1)[:, k - 1])
    return np.concatenate(kth)


def recall(x: Array, index: Array, rows: Array, kth: Array) -> float:
    """Share of the neighbours index[rows] that are no farther than kth [len(rows)], ties counted as right.

    A row itself, a neighbour named twice and "nobody" (-1) are wrong.
    """
    found = np.sort(np.asarray(index[rows], np.int64), axis=1)  # [rows, k]
    known = (np.diff(found, axis=1, prepend=-1) > 0) & (found != rows[:, None])
    near = np.concatenate(
        [
            _distance(x, rows[start : start + QUERIES], found[start : start + QUERIES])
            for start in range(0, len(rows), QUERIES)
        ]
    )
    return float(np.mean(known & (near <= kth[:, None] * (1 + TIE))))


def difference(scores: Array, others: Array) -> float:
    """The largest relative difference between two libraries' scores [n]."""
    return float(np.max(np.abs(scores - others) / np.abs(others)))


def _distance(x: Array, rows: Array, index: Array) -> Array:
    """Direct form in float64: [len(rows), columns of index]."""
    return np.asarray(np.linalg.norm(x[index].astype(np.float64) - x[rows][:, None], axis=2))
