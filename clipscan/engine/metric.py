"""Neighbours of raw rows as other libraries define them: float64 kept, and the cosine distance."""

from __future__ import annotations

from typing import Literal

import numpy as np

from clipscan.engine.arrays import Array, as_rows, unit
from clipscan.engine.checks import bad_rows
from clipscan.engine.dispatch import search
from clipscan.engine.float64 import search_float64
from clipscan.engine.neighbors import Neighbors

Metric = Literal["euclidean", "cosine"]


def placed(rows: Array, metric: Metric) -> Array:
    """Finite rows [n, d] where `nearest` searches them: themselves, or for cosine their directions, of a zero
    row zero."""
    if metric == "euclidean":
        return rows
    largest = np.abs(rows).max(axis=1, keepdims=True)
    return unit(np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0))


def nearest(
    fitted: Array, queries: Array | None, k: int, metric: Metric = "euclidean", threads: int | None = None
) -> Neighbors:
    """The k nearest of the placed rows fitted [m, d] for each query [n, d], or for each fitted row among the
    others; k is checked. Distances are float32 where all rows are, else float64. Cosine distances are
    1 - cosine; zero rows lie at 1 from all others, at 0 from one another."""
    if metric == "euclidean":
        return _nearest(fitted, queries, k, threads)
    table = _nearest(*_zero_rows_apart(fitted, queries), k, threads)
    # Of unit vectors |u - v|^2 is twice the cosine distance, and keeps its digits for near-copies.
    return Neighbors(table.distance**2 / 2, table.index, table.backend)


def _nearest(fitted: Array, queries: Array | None, k: int, threads: int | None) -> Neighbors:
    both = [fitted] if queries is None else [queries, fitted]
    if all(rows.dtype == np.float32 and not len(bad_rows(as_rows(rows), threads)) for rows in both):
        others = None if queries is None else as_rows(fitted)
        return search(as_rows(both[0]), others, k, threads=threads)
    wide = [rows.astype(np.float64, copy=False) for rows in both]
    return search_float64(wide[0], None if queries is None else wide[1], k, threads=threads)


def _zero_rows_apart(fitted: Array, queries: Array | None) -> tuple[Array, Array | None]:
    """Unit rows [m, d] and [n, d]; zero rows, if any, get a direction of their own, one column more."""
    both = [rows for rows in (fitted, queries) if rows is not None]
    zero = [~rows.any(axis=1, keepdims=True) for rows in both]
    if any(one.any() for one in zero):
        both = [np.hstack([rows, one.astype(rows.dtype)]) for rows, one in zip(both, zero, strict=True)]
    return both[0], None if queries is None else both[1]
