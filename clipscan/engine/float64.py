"""Neighbours by float64 distances: the float32 search proposes candidates, float64 measures and proves them.

`search` rounds rows to float32, which moves a distance by up to 2^-24 of the two norms. A row's k nearest by
float64 are proved when the k-th candidate is nearer than any row that was not proposed can be; rows without
a proof are searched again with more candidates, at last with all rows.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from clipscan.engine.arrays import Array, as_rows
from clipscan.engine.dispatch import SearchOptions, search
from clipscan.engine.neighbors import Neighbors

SPARE = 8  # candidates beyond k that the first search proposes; four times as many in each later one
TABLE_ENTRIES = 1 << 24  # candidates that one search proposes at most
BLOCK_BYTES = 1 << 20  # of candidate rows in float64 at once: they stay in a cache
ROUNDING = 2.0**-24  # of float32
FLOOR = 2.0**-74  # a smaller difference has a square below float32; rows are scaled to 1


def search_float64(
    queries: Array, reference: Array | None, k: int, **options: Unpack[SearchOptions]
) -> Neighbors:
    """As `search` on checked float64 rows, queries [n, d] and reference [m, d]: the table [n, k], with
    distances in float64, ordered by (distance, index). Without `reference` a self-search, no row its own
    neighbour. Every finite row is served, whatever its size: distances beyond float64 are +inf.
    BackendError and DeviceLost as `search`.
    """
    others = queries if reference is None else reference
    scale = _power_of_two(max(_largest(queries), _largest(others)))
    x, centre = queries * scale, (others * scale).mean(axis=0)
    y = x if reference is None else others * scale
    shift = _Shifted(x, y, centre)
    own = np.arange(len(x)) if reference is None else None

    n, m = len(x), len(y) - (own is not None)  # candidates that there are
    distance, index = np.empty((n, k)), np.empty((n, k), np.int64)
    left, asked, backend = np.arange(n), min(k + SPARE, m), ""
    while len(left):
        unproved = np.zeros(n, bool)
        step = max(1, TABLE_ENTRIES // asked)
        for rows in (left[at : at + step] for at in range(0, len(left), step)):
            table = shift.search(rows, own, asked, options)
            near, number = _measured(x[rows], y, table.index)
            distance[rows], index[rows], backend = near[:, :k], number[:, :k], table.backend
            last = near[:, k - 1]  # nothing is nearer than 0
            unproved[rows] = (last >= shift.beyond(rows, table.distance[:, -1])) & (last > 0) & (asked < m)
        left, asked = np.flatnonzero(unproved), min(4 * asked, m)
    with np.errstate(over="ignore"):
        return Neighbors(distance / scale, index, backend)


class _Shifted:
    """Scaled rows x [n, d] and y [m, d] less their centre, as float32, and how far that moves them."""

    def __init__(self, x: Array, y: Array, centre: Array):
        self.itself = x is y
        self.x, self.x_moved = _rounded(x, centre)
        self.y, self.y_moved = (self.x, self.x_moved) if self.itself else _rounded(y, centre)
        self.farthest = self.y_moved.max()

    def search(self, rows: Array, own: Array | None, k: int, options: Any) -> Neighbors:
        """The k nearest float32 rows of the queries `rows`."""
        if self.itself and len(rows) == len(self.x):
            return search(as_rows(self.x), None, k, **options)
        mine = None if own is None else own[rows]
        return search(as_rows(self.x[rows]), as_rows(self.y), k, mine, own, **options)

    def beyond(self, rows: Array, last: Array) -> Array:
        """[rows] the least that a float64 distance can be, of those behind a float32 distance `last`."""
        d = self.x.shape[1]
        summed = (d / 16 + 10) * ROUNDING  # csrc/kernel_measure.inl adds squares in 16 lanes
        return last * (1.0 - summed) - self.x_moved[rows] - self.farthest - d**0.5 * FLOOR  # type: ignore[no-any-return]


def _rounded(x: Array, centre: Array) -> tuple[Array, Array]:
    """(x - centre as float32 [n, d], the most by which each row was moved [n])."""
    shifted = x - centre
    moved = np.linalg.norm(shifted, axis=1) * ROUNDING + np.linalg.norm(x, axis=1) * 2.0**-52
    return shifted.astype(np.float32), 1.01 * moved + x.shape[1] ** 0.5 * 2.0**-149


def _measured(queries: Array, reference: Array, index: Array) -> tuple[Array, Array]:
    """Candidates [n, c] in order of (float64 distance, index): (distance, index)."""
    distance = np.empty(index.shape)
    step = max(1, BLOCK_BYTES // (8 * index.shape[1] * queries.shape[1]))
    for at in range(0, len(queries), step):
        block = slice(at, at + step)
        difference = reference[index[block]] - queries[block, None]
        distance[block] = np.sqrt(np.einsum("ncd,ncd->nc", difference, difference))
    order = np.lexsort((index, distance), axis=1)
    return np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1)


def _largest(x: Array) -> float:
    return float(max(-x.min(), x.max()))


def _power_of_two(largest: float) -> float:
    """What brings the largest coordinate to between 1/2 and 1, exactly."""
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    return 2.0 ** -max(min(exponent, 1022), -1022)
