"""A search walks over tile pairs in rounds, each as long as all before it: limits keep up with what has been seen.

After a round every row's candidates prove a tighter limit. A row that found more than it had room for is walked again
through that round, alone and with the limit that this many candidates proved; if they are still too many, in halves.
One pair of tiles always fits: a row has room for two tiles, and at most half of it is taken between rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from clipscan.engine.arrays import Array
from clipscan.engine.limits import Counts

from . import refine
from .filter import Walk, filter
from .loaded import Loaded
from .refine import FINISH, SETTLE, TIGHTEN
from .state import NO_KEY, State, row_bytes, start

SETTLE_AT = 16  # the share of all tiles, one in so many, after which a measured limit pays: it costs k rows
GATHER_BYTES = 64 << 20  # float32 rows fetched from the host at once
TABLE_BYTES = 64 << 20  # of keys sorted at once
FIXED_MEMORY = 512 << 20  # bytes of what does not grow with the rows: those blocks, and their copies


class Piece(NamedTuple):
    """Steps [begin, end) of a walk, forwards or backwards."""

    forward: bool
    begin: int
    end: int

    def halves(self) -> tuple[Piece, Piece]:
        middle = (self.begin + self.end) // 2
        return self._replace(end=middle), self._replace(begin=middle)


@dataclass
class Side:
    """Rows at work, and the set that they belong to."""

    loaded: Loaded
    state: State


def room_for(rows: int, k: int, memory: int, tile: int) -> int:
    """Candidates that each row may hold: about k pass in a round, and a few times as many where codes are coarse."""
    spare = (memory - FIXED_MEMORY) // max(1, rows) - row_bytes(0, k)
    return int(np.clip(spare // 8 // 64 * 64, 2 * tile, -(-8 * k // 64) * 64 + 2 * tile))


def least_memory(rows: int, k: int, tile: int) -> int:
    return FIXED_MEMORY + rows * row_bytes(2 * tile, k)


def begin(loaded: Loaded, span: tuple[int, int], k: int, distance: Array | None, room: int) -> Side:
    """Rows [span) of a set, of which no neighbour beyond `distance` [rows] is wanted."""
    device, units = loaded.codes.norm.device, loaded.units
    limit = torch.full((span[1] - span[0],), np.inf, device=device)
    if distance is not None:
        limit = torch.from_numpy(distance.astype(np.float32)).to(device) * units.distance_scale + units.distance_add
    return Side(loaded, start(span[0], span[1] - span[0], room, k, limit))


def only_met(loaded: Loaded, span: tuple[int, int]) -> Side:
    """Rows [span) that take nothing."""
    return Side(loaded, State(span[0], span[1] - span[0]))


class Search:
    """Rows against columns: two sides of which both may take, or one side among itself (the same object twice).

    Where the columns take too, there are at least as many of them.
    """

    def __init__(self, rows: Side, columns: Side, ids: tuple[Any, Any], counts: Counts):
        self._rows, self._columns, self._ids, self._counts = rows, columns, ids, counts
        self._sizes = rows.loaded.sizes
        self._among = columns is rows
        self._takers = [side for side in ((rows,) if self._among else (rows, columns)) if side.state.k]
        row_tiles, column_tiles = (-(-side.state.n // self._sizes.tile) for side in (rows, columns))
        self._period = column_tiles
        # Rows of a self-search meet the next tile at a step; others are spread over the columns evenly; where columns
        # take nothing, all rows meet the same tile, which is then read once.
        self._stride = 1 if self._among else column_tiles // row_tiles if len(self._takers) == 2 else 0
        self._opposite = self._period // 2 if self._among and self._period % 2 == 0 else -1
        self._steps = self._period // 2 + 1 if self._among else self._period

    def walk(self, seen: int = 0) -> None:
        """All tiles; `seen` counts those that the rows have met in an earlier search."""
        begin, total = 0, seen + self._steps
        while begin < self._steps:
            end = min(self._steps, begin + max(1, seen + begin))
            self._visit(Piece(True, begin, end))
            for side in self._takers:
                lost = self._refine(side, TIGHTEN)
                for piece in self._pieces(side, begin, end) if len(lost) else ():
                    self._again(side, lost, piece)
            if end < self._steps and (seen + begin) * SETTLE_AT < total <= (seen + end) * SETTLE_AT:
                for side in self._takers:
                    self._refine(side, SETTLE)
            begin = end

    def finish(self) -> None:
        """Afterwards `best` holds the answer."""
        for side in self._takers:
            self._refine(side, SETTLE)
            self._refine(side, FINISH)

    # ---- tiles

    def _visit(self, piece: Piece) -> None:
        """For everybody."""
        tiles = torch.arange(-(-self._rows.state.n // self._sizes.tile), dtype=torch.int32, device=self._device)
        walk = self._walk(tiles, piece, self._columns.state.n)._replace(half=self._opposite)
        self._filter(self._rows, self._columns, self._rows.state, self._columns.state, walk, piece.forward)

    def _pieces(self, side: Side, begin: int, end: int) -> Iterator[Piece]:
        """What a row of the side met in these steps, seen from the row."""
        if side is self._rows:
            yield Piece(True, begin, end)
        if self._among:  # the tile itself, and the opposite one, are met once only
            begin, end = max(1, begin), end - (end - 1 == self._opposite)
        if side is self._columns and begin < end:
            yield Piece(False, begin, end)

    def _again(self, side: Side, lines: Any, piece: Piece) -> None:
        """For the rows of `lines` only."""
        other = self._columns if side is self._rows else self._rows
        limit = torch.full_like(side.state.limit, -1)
        limit[lines] = side.state.limit[lines]
        tiles = torch.unique(lines // self._sizes.tile)
        walk = self._walk(tiles, piece, other.state.n)
        self._filter(side, other, side.state._replace(limit=limit), other.state._replace(limit=None), walk, piece.forward)
        lost = self._refine(side, TIGHTEN, lines)
        if len(lost):
            for half in piece.halves():
                self._again(side, lost, half)

    def _walk(self, tiles: Any, piece: Piece, columns: int) -> Walk:
        count = -(-columns // self._sizes.tile)
        return Walk(tiles, len(tiles), piece.begin, piece.end - piece.begin, count, self._period, self._stride)

    def _filter(self, rows: Side, columns: Side, row: State, column: State, walk: Walk, forward: bool) -> None:
        ids = self._ids if rows is self._rows else self._ids[::-1]
        filter(rows.loaded.codes, columns.loaded.codes, row, column, ids, walk, self._among, forward, self._sizes)

    # ---- candidates

    def _refine(self, side: Side, mode: int, lines: Any = None) -> Any:
        """The rows that lost candidates."""
        state, sizes, units = side.state, self._sizes, side.loaded.units
        errors = side.loaded.codes.error, self._other(side).loaded.codes.error
        listed = (lambda column: column) if lines is None else (lambda column: column[lines])
        before = listed(state.count).sum() - listed(state.kept).sum()
        refine.launch_tighten(state, lines, *errors, units, mode, sizes)
        wanted, lost = listed(state.wanted), listed(state.lost)
        passed, measured, reach, losers = torch.stack(
            [before, wanted.sum(), (listed(state.count) * (wanted > 0)).max(), lost.sum()]
        ).tolist()
        self._counts.passed += passed
        self._counts.measured += measured
        if measured:
            self._measure(side, lines, wanted, reach)
            refine.launch_merge(state, lines, *errors, units, sizes)
        if not losers:
            return ()
        rows = torch.nonzero(lost)[:, 0].to(torch.int32)
        return rows if lines is None else lines[rows]

    def _measure(self, side: Side, lines: Any, wanted: Any, reach: int) -> None:
        """Candidates up to their row's bar become keys."""
        own, other = side.loaded, self._other(side).loaded
        x, y = own.view(), other.view()
        if x is not None and y is not None:
            refine.launch_measure(side.state, lines, reach, x, y, own.d, self._sizes)
            return
        if lines is None:
            lines = torch.arange(side.state.n, dtype=torch.int32, device=self._device)
        lines, wanted = lines[wanted > 0], wanted[wanted > 0]
        most = max(1, GATHER_BYTES // (4 * own.d))
        group = (torch.cumsum(wanted + 1, 0) - 1) // most  # a row too many for one block is one by itself
        for some in torch.split(lines, torch.unique_consecutive(group, return_counts=True)[1].tolist()):
            self._measure_gathered(side, some, reach)

    def _measure_gathered(self, side: Side, lines: Any, reach: int) -> None:
        """The same for a few rows, with the original rows fetched from wherever they are."""
        state, other = side.state, self._other(side).loaded
        items = state.waiting[lines, :reach]
        slots = torch.arange(reach, device=items.device)
        needed = (slots < state.count[lines, None]) & (items >> 32 <= state.bar[lines, None])
        positions, place = torch.unique(items[needed] & 0xFFFFFFFF, return_inverse=True)
        places = torch.zeros(items.shape, dtype=torch.int64, device=items.device)
        places[needed] = place
        x, y = side.loaded.take(state.first + lines.long()), other.take(positions)
        views = [refine.Originals(rows, rows.stride(0)) for rows in (x, y)]
        own_place = torch.arange(len(lines), device=items.device)
        refine.launch_measure(state, lines, reach, *views, other.d, self._sizes, own_place, places)

    def _other(self, side: Side) -> Side:
        return self._columns if side is self._rows else self._rows

    @property
    def _device(self) -> torch.device:
        return self._rows.loaded.codes.norm.device


def table(state: State, origin: int) -> tuple[Array, Array]:
    """distance [n, k] float32, index [n, k] int64 counted from `origin`, ordered; nobody is (+inf, -1)."""
    distance, index = np.empty((state.n, state.k), np.float32), np.empty((state.n, state.k), np.int64)
    rows = max(1, TABLE_BYTES // (8 * state.k))
    for begin in range(0, state.n, rows):
        keys = state.best[begin : begin + rows].sort(dim=1).values
        row = torch.where(keys == NO_KEY, -1, (keys & 0xFFFFFFFF) - origin)
        distance[begin : begin + rows] = (keys >> 32).to(torch.int32).view(torch.float32).cpu().numpy()
        index[begin : begin + rows] = row.cpu().numpy()
    return distance, index
