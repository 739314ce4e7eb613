"""Neighbours by float64 distances: the float32 search proposes candidates, float64 measures and proves them.

`search` rounds rows to float32, which moves a distance by up to 2^-24 of the two norms. A row's k nearest by
float64 are proved when the k-th candidate is nearer than any row that was not proposed can be; rows without
a proof are searched again with more candidates, at last measured against all. A few rows that lie far from
the others would spoil the proof of every row: they stay out of the float32 search and are candidates always.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from clipscan.engine.arrays import Array, as_rows
from clipscan.engine.dispatch import SearchOptions, search
from clipscan.engine.float64_distance import measured
from clipscan.engine.neighbors import Neighbors

SPARE = 8  # candidates beyond k that the first search proposes; four times as many in each later one
TABLE_ENTRIES = 1 << 24  # candidates that one search proposes at most
SAMPLED = 1 << 15  # rows that the centre is the median of, at most
FAR = 2.0**10  # times the median distance from the centre, at which a row counts as far
FAR_ROWS = 16  # rows that may be far, and one in FAR_SHARE besides: each is measured for every query
FAR_SHARE = 64
REACH = 2.0**40  # times the largest reference row that a query may be: float32 holds its squares
ROUNDING = 2.0**-24  # of float32
FLOOR = 2.0**-74  # a smaller difference has a square below float32; rows are scaled to 1


def search_float64(
    queries: Array, reference: Array | None, k: int, **options: Unpack[SearchOptions]
) -> Neighbors:
    """As `search` on checked float64 rows, queries [n, d] and reference [m, d]: the table [n, k], with
    distances in float64, ordered by (distance, index). Without `reference` a self-search, no row its own
    neighbour. Every finite row is served, whatever its size beside others: distances beyond float64 are +inf,
    and equal. Rows of which float32 cannot tell the neighbours apart are measured against all others, so a
    set of mostly such rows takes n m d steps. BackendError and DeviceLost as `search`.
    """
    y = queries if reference is None else reference
    own = np.arange(len(queries)) if reference is None else None
    shift = _Shifted(None if own is not None else queries, y)
    distance, index = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    most = len(shift.near) - (own is not None)  # candidates that a float32 search has
    asked, backend, everywhere = min(k + SPARE, most), "cpu", shift.out_of_reach
    left = np.setdiff1d(np.arange(len(queries)), everywhere)
    while len(left) and asked:
        unproved = np.zeros(len(queries), bool)
        step = max(1, TABLE_ENTRIES // asked)
        for rows in (left[at : at + step] for at in range(0, len(left), step)):
            table = shift.search(rows, asked, options)
            far = np.broadcast_to(shift.far, (len(rows), len(shift.far)))
            found, number = measured(queries[rows], y, np.hstack([shift.near[table.index], far]))
            distance[rows], index[rows], backend = found[:, :k], number[:, :k], table.backend
            last = found[:, k - 1]  # nothing is nearer than 0
            proved = shift.proves(rows, last, table.distance[:, -1])
            unproved[rows] = ~proved & (last > 0) & (asked < most)
        left, asked = np.flatnonzero(unproved), 4 * asked if 4 * asked < most else 0
    for row in (everywhere, left):
        _measure_all(queries, y, own is not None, row, distance, index)
    return Neighbors(distance, index, backend)


def _measure_all(queries: Array, y: Array, itself: bool, rows: Array, distance: Array, index: Array) -> None:
    """Fills distance and index [n, k] of the queries `rows` from all of y, a row itself left out."""
    every, k = np.arange(len(y)), distance.shape[1]
    for row in rows:
        others = np.delete(every, row) if itself else every
        found, number = measured(queries[row][None], y, others[None])
        distance[row], index[row] = found[0, :k], number[0, :k]


class _Shifted:
    """Rows x [n, d], and those rows of y [m, d] that are `near` and not `far`, less a centre and scaled, as
    float32, and how far that moves them; without x a self-search of y. `out_of_reach`: queries that are not
    searched in float32."""

    def __init__(self, x: Array | None, y: Array):
        self.itself = x is None
        centre = _median(y[:: -(-len(y) // SAMPLED)])
        size = _size(y, centre)
        near = size <= _limit(size)
        self.near, self.far = np.flatnonzero(near), np.flatnonzero(~near)
        self.scale = _power_of_two(size[near].max(initial=0.0))
        self.y, self.y_moved = _rounded(y[near], centre, self.scale)
        self.farthest = self.y_moved.max(initial=0.0)
        if x is None:
            self.out_of_reach, self.place = self.far, np.cumsum(near) - 1
            self.x, self.x_moved = self.y, self.y_moved
        else:
            with np.errstate(over="ignore"):
                within = _size(x, centre) * self.scale <= REACH
            self.out_of_reach, self.place = np.flatnonzero(~within), np.cumsum(within) - 1
            self.x, self.x_moved = _rounded(x[within], centre, self.scale)

    def search(self, rows: Array, k: int, options: Any) -> Neighbors:
        """The k nearest float32 rows of the queries `rows`, by their place in `near`."""
        place = self.place[rows]
        if self.itself and len(rows) == len(self.x):
            return search(as_rows(self.x), None, k, **options)
        own = np.arange(len(self.y)) if self.itself else None
        mine = place if self.itself else None
        return search(as_rows(self.x[place]), as_rows(self.y), k, mine, own, **options)

    def proves(self, rows: Array, nearest: Array, last: Array) -> Array:
        """[rows] bool: is a float64 distance `nearest` less than any can be that lies behind a float32
        distance `last`?"""
        d = self.x.shape[1]
        summed = (d / 16 + 10) * ROUNDING  # csrc/kernel_measure.inl adds squares in 16 lanes
        moved = self.x_moved[self.place[rows]] + self.farthest
        with np.errstate(over="ignore"):
            return nearest * self.scale < last * (1.0 - summed) - moved - d**0.5 * FLOOR  # type: ignore[no-any-return]


def _size(x: Array, centre: Array) -> Array:
    """[n] the largest coordinate of each row less the centre; +inf beyond float64."""
    with np.errstate(over="ignore"):
        shifted = x - centre
    return np.maximum(shifted.max(axis=1), -shifted.min(axis=1))


def _limit(size: Array) -> float:
    """Of sizes [m], the largest that a row may have to be near."""
    apart = size[size > 0]
    if not len(apart):
        return 0.0
    rank = max(0, len(size) - 1 - FAR_ROWS - len(size) // FAR_SHARE)
    few = np.partition(size, rank)[rank]  # no more rows than may be far lie beyond it
    with np.errstate(over="ignore"):
        return float(min(max(FAR * _median(apart), few), np.finfo(np.float64).max))


def _median(values: Array) -> Any:
    """Of values [n] or of each column of [n, d], the lower one of two: their mean may not be a float64."""
    middle = (len(values) - 1) // 2
    return np.partition(values, middle, axis=0)[middle]


def _rounded(x: Array, centre: Array, scale: float) -> tuple[Array, Array]:
    """(x - centre, scaled, as float32 [n, d], the most by which each row was moved [n])."""
    shifted = (x - centre) * scale
    moved = np.linalg.norm(shifted, axis=1) * (ROUNDING + 2.0**-52)
    return shifted.astype(np.float32), 1.01 * moved + x.shape[1] ** 0.5 * 2.0**-148


def _power_of_two(largest: float) -> float:
    """What brings the largest coordinate to between 1/2 and 1, exactly."""
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    return 2.0 ** -max(min(exponent, 1022), -1022)
