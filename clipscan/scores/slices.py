"""Columns of all rows, a slice of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clipscan.engine import Rows
from clipscan.engine.arrays import Array

Columns = dict[str, Array]
ColumnsOf = Callable[[int, int], tuple[Columns, Columns]]  # of rows [start, stop): (scores, spread)

TOGETHER_ROWS = 1 << 14  # of small shards: a search takes as long to set up for one row as for hundreds
QUERY_BYTES = 64 << 20  # float32 query rows scored at once


def in_slices(columns: ColumnsOf, rows: Rows) -> tuple[Columns, Columns]:
    """(scores, spread) of all rows, computed a slice at a time."""
    step = max(1, QUERY_BYTES // (4 * rows.d))
    parts = [columns(start, min(rows.n, start + step)) for start in range(0, rows.n, step)]
    scores, spread = (
        {name: np.concatenate([part[side][name] for part in parts]) for name in parts[0][side]}
        for side in (0, 1)
    )
    return scores, spread


def together(columns: ColumnsOf, counts: Sequence[int]) -> ColumnsOf:
    """`columns`, of shards of so many rows each, asked for several at a time where they are small. Scores are
    the same for any slices."""
    ends = np.cumsum(counts)
    begin = end = 0
    held: tuple[Columns, Columns] = ({}, {})

    def of(start: int, stop: int) -> tuple[Columns, Columns]:
        nonlocal begin, end, held
        if not begin <= start < stop <= end:
            within = np.searchsorted(ends, start + TOGETHER_ROWS, side="right")
            begin, end = start, max(stop, int(ends[within - 1]) if within else 0)
            held = columns(begin, end)
        mean, spread = ({n: v[start - begin : stop - begin] for n, v in side.items()} for side in held)
        return mean, spread

    return of
