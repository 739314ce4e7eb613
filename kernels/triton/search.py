"""A search walks over tile pairs in rounds, each as long as all before it: limits keep up with what has been
seen.

After a round every row's candidates prove a tighter limit. A row that found more than its capacity has
overflowed: it is walked again through that round, alone and with the limit that this many candidates proved;
if they are still too many, in halves. One pair of tiles always fits: a row has room for two tiles, and at
most half of it is taken between rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from clipscan.engine.arrays import Array
from clipscan.engine.limits import Counts

from . import measure, refine, waiting
from .filter import Walk, filter
from .loaded import Loaded
from .refine import FINISH, SETTLE, TIGHTEN
from .state import NO_KEY, Side, row_bytes, start

SETTLE_AT = 16  # the share of all tiles, one in so many, after which a measured limit pays: it reads k rows
GATHER_BYTES = 32 << 20  # float32 rows fetched from the host at once
TABLE_BYTES = 16 << 20  # of keys sorted at once
FIXED_MEMORY = 256 << 20  # bytes of what does not grow with the rows: those blocks, and their copies


class Piece(NamedTuple):
    """Steps [begin, end) of a walk, forwards or backwards."""

    forward: bool
    begin: int
    end: int

    def halves(self) -> tuple[Piece, Piece]:
        middle = (self.begin + self.end) // 2
        return self._replace(end=middle), self._replace(begin=middle)


def capacity_for(rows: int, k: int, memory: int, tile: int) -> int:
    """Candidates that each row may hold: of clustered rows up to 25 k come in a round (bench/rounds.py)."""
    spare = (memory - FIXED_MEMORY) // max(1, rows) - row_bytes(0, k)
    return int(np.clip(spare // 8 // 64 * 64, 2 * tile, -(-32 * k // 64) * 64 + 2 * tile))


def least_memory(rows: int, k: int, tile: int) -> int:
    return FIXED_MEMORY + rows * row_bytes(2 * tile, k)


def begin(loaded: Loaded, span: tuple[int, int], k: int, distance: Array | None, capacity: int) -> Side:
    """Rows [span) of a set, of which no neighbour beyond `distance` [rows] is wanted."""
    n, units = span[1] - span[0], loaded.units
    limit = torch.full((n,), np.inf, dtype=torch.float32)
    if distance is not None:
        limit = torch.from_numpy(distance.astype(np.float32)) * units.distance_scale + units.distance_add
    return Side(loaded, span[0], n, capacity, k, start(limit.to(loaded.codes.norm.device), capacity, k))


def only_met(loaded: Loaded, span: tuple[int, int]) -> Side:
    """Rows [span) that take nothing."""
    return Side(loaded, span[0], span[1] - span[0])


class Search:
    """Rows against columns: two sides of which both may take, or one side among itself (the same object
    twice). Where the columns take too, there are at least as many of them.
    """

    def __init__(self, rows: Side, columns: Side, ids: tuple[Any, Any], counts: Counts):
        self._rows, self._columns, self._ids, self._counts = rows, columns, ids, counts
        self._sizes, self._device = rows.loaded.sizes, rows.loaded.codes.norm.device
        self._among = columns is rows
        self._resident = rows.loaded.view() is not None and columns.loaded.view() is not None
        self._takers = [side for side in ((rows,) if self._among else (rows, columns)) if side.k]
        row_tiles, self._period = self._tiles(rows), self._tiles(columns)
        # Rows of a self-search meet the next tile at each step; those of two sides are spread evenly over the
        # columns; where columns take nothing, all rows meet the same tile, which is then read once.
        self._stride = 1 if self._among else self._period // row_tiles if len(self._takers) == 2 else 0
        self._opposite = self._period // 2 if self._among and self._period % 2 == 0 else -1
        self.steps = self._period // 2 + 1 if self._among else self._period

    def walk(self, seen: int = 0) -> None:
        """All tiles; `seen` counts those that the rows have met in an earlier search."""
        begin, total = 0, seen + self.steps
        while begin < self.steps:
            end = min(self.steps, begin + max(1, seen + begin))
            self.visit(begin, end)
            for side in self._takers:
                overflowed = self.refine(side, TIGHTEN)
                for piece in self._pieces(side, begin, end) if len(overflowed) else ():
                    self.visit_again(side, overflowed, piece)
            due = end < self.steps and (seen + begin) * SETTLE_AT < total <= (seen + end) * SETTLE_AT
            for side in self._takers if due and self._resident else ():
                self.refine(side, SETTLE)
            begin = end

    def finish(self) -> None:
        """Afterwards `best` holds the answer."""
        for side in self._takers:
            self.refine(side, SETTLE)
            self.refine(side, FINISH)

    # ---- tiles

    def visit(self, begin: int, end: int) -> None:
        """These steps, for everybody."""
        tiles = torch.arange(self._tiles(self._rows), dtype=torch.int32, device=self._device)
        self._filter(self._rows, self._columns, tiles, Piece(True, begin, end), self._opposite)

    def visit_again(self, side: Side, lines: Any, piece: Piece) -> None:
        """For the rows `lines` of a side only."""
        limit = torch.full_like(side.state.limit, -1)
        limit[lines] = side.state.limit[lines]
        takers = replace(side, state=side.state._replace(limit=limit))
        other = self._other(side)
        met = replace(other, state=other.state._replace(limit=None))
        self._filter(takers, met, torch.unique(lines // self._sizes.tile), piece, -1)
        overflowed = self.refine(side, TIGHTEN, lines)
        if len(overflowed):
            for half in piece.halves():
                self.visit_again(side, overflowed, half)

    def _pieces(self, side: Side, begin: int, end: int) -> Iterator[Piece]:
        """What a row of the side met in these steps, seen from the row."""
        if side is self._rows:
            yield Piece(True, begin, end)
        if self._among:  # the tile itself, and the opposite one, are met once only
            begin, end = max(1, begin), end - (end - 1 == self._opposite)
        if side is self._columns and begin < end:
            yield Piece(False, begin, end)

    def _filter(self, rows: Side, columns: Side, tiles: Any, piece: Piece, half: int) -> None:
        walk = Walk(
            tiles, len(tiles), piece.begin, piece.end - piece.begin, self._tiles(columns), self._period,
            self._stride, half,
        )  # fmt: skip
        filter(rows, columns, self._ids, walk, self._among, piece.forward, self._sizes)

    def _tiles(self, side: Side) -> int:
        return -(-side.n // self._sizes.tile)

    def _other(self, side: Side) -> Side:
        return self._columns if side is self._rows else self._rows

    # ---- candidates

    def refine(self, side: Side, mode: int, lines: Any = None) -> Any:
        """The rows that overflowed, of all or of `lines`."""
        state, other = side.state, self._other(side).loaded
        listed = (lambda column: column) if lines is None else (lambda column: column[lines])
        before = listed(state.count).sum() - listed(state.kept).sum()
        refine.launch_tighten(side, other, lines, mode, self._sizes)
        wanted, overflowed = listed(state.wanted), listed(state.overflowed)
        numbers = [before, wanted.sum(), (listed(state.count) * (wanted > 0)).max(), overflowed.sum()]
        waiting.rest(self._device)
        passed, measured, reach, many = torch.stack(numbers).tolist()
        self._counts.passed += passed
        self._counts.measured += measured
        if measured:
            self._measure(side, other, lines, wanted, reach)
            refine.launch_merge(side, other, lines, self._sizes)
        if not many:
            return ()
        rows = torch.nonzero(overflowed)[:, 0].to(torch.int32)
        return rows if lines is None else lines[rows]

    def _measure(self, side: Side, other: Loaded, lines: Any, wanted: Any, reach: int) -> None:
        """Candidates up to their row's bar, within the first `reach` slots, become keys."""
        x, y = side.loaded.view(), other.view()
        if x is not None and y is not None:
            measure.launch_measure(side, lines, reach, x, y, self._sizes)
            return
        if lines is None:
            lines = torch.arange(side.n, dtype=torch.int32, device=self._device)
        lines, wanted = lines[wanted > 0], wanted[wanted > 0]
        most = max(1, GATHER_BYTES // (4 * other.d))
        group = (torch.cumsum(wanted + 1, 0) - 1) // most  # a row that is too many for one block is a group
        for some in torch.split(lines, torch.unique_consecutive(group, return_counts=True)[1].tolist()):
            self._measure_gathered(side, other, some, reach)

    def _measure_gathered(self, side: Side, other: Loaded, lines: Any, reach: int) -> None:
        """The same for a few rows, with the original rows fetched from wherever they are."""
        items = side.state.waiting[lines, :reach]
        slots = torch.arange(reach, device=self._device)
        needed = (slots < side.state.count[lines, None]) & (items >> 32 <= side.state.bar[lines, None])
        positions, place = torch.unique(items[needed] & 0xFFFFFFFF, return_inverse=True)
        places = torch.zeros(items.shape, dtype=torch.int64, device=self._device)
        places[needed] = place
        own, others = side.loaded.take(side.first + lines.long()), other.take(positions)
        x, y = (measure.Originals(rows, rows.stride(0)) for rows in (own, others))
        own_place = torch.arange(len(lines), device=self._device)
        measure.launch_measure(side, lines, reach, x, y, self._sizes, own_place, places)


def table(side: Side, origin: int) -> tuple[Array, Array]:
    """distance [n, k] float32, index [n, k] int64 counted from `origin`, ordered; nobody is (+inf, -1)."""
    distance, index = np.empty((side.n, side.k), np.float32), np.empty((side.n, side.k), np.int64)
    rows = max(1, TABLE_BYTES // (8 * side.k))
    waiting.rest(side.state.best.device)
    for begin in range(0, side.n, rows):
        keys = side.state.best[begin : begin + rows].sort(dim=1).values
        row = torch.where(keys == NO_KEY, -1, (keys & 0xFFFFFFFF) - origin)
        distance[begin : begin + rows] = (keys >> 32).to(torch.int32).view(torch.float32).cpu().numpy()
        index[begin : begin + rows] = row.cpu().numpy()
    return distance, index
