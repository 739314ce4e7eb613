"""Tiles of codes -> pairs that may be neighbours, noted down as candidates. Nothing of size n x m is ever
stored.

A program owns one tile: TILE rows against TILE columns. With h = norm >> 1 its sums start from -h_i - h_j and
end at q_i.q_j - h_i - h_j, which is -|q_i - q_j|^2 / 2 (halves rounded down). The pair concerns row i where
that reaches the row's floor, and column j where it reaches the column's: taking the largest error of the tile
makes both one number a row. Most tiles have no such pair and end there. A pair that reaches a floor is looked
at again with its own errors.

Few hits are noted one of each row at a time, which costs two passes over the tile. A crowded tile (before
there are limits; copies) is only listed; a second launch multiplies it again in smaller parts, and notes all
hits at once by a prefix sum. Both in one kernel would take all registers: then one tile is at work on a
multiprocessor, and not two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from . import waiting
from .sizes import Sizes
from .state import Side

# With at most 2^14 codes a row, h is at most 127^2 * 2^13, and half of a squared distance 4 times that.
ALWAYS = tl.constexpr(3 << 28)  # half of a squared reach that every pair is within
FAR = tl.constexpr(7 << 27)  # h of who is not there: no sum of his is above -ALWAYS, and none leaves int32
NEVER = tl.constexpr(16)  # a floor that no sum reaches: none is above 1
FEW = tl.constexpr(4)  # hits of one row or column; a tile with more is crowded


class Walk(NamedTuple):
    """Which tiles meet. At a step, row tile t meets column tile (t * stride + step) mod period; or,
    backwards, the one of which t is that column tile. A step equal to `half` meets opposite tiles of a
    circle, from one side only.
    """

    tiles: Any  # [listed] int32: the row tiles
    listed: int
    begin: int  # steps
    steps: int
    reached: int  # column tiles; those from there on are skipped
    period: int
    stride: int = 1
    half: int = -1


@triton.jit
def meeting(
    tiles, listed, begin, steps, reached, period, stride, half, number,
    GROUP: tl.constexpr, FORWARD: tl.constexpr,
):  # fmt: skip
    """Row tile and column tile of pair `number` of a walk; column tile -1: these do not meet. GROUP
    neighbouring row tiles are at work together: they share column tiles in L2.
    """
    group, turn = number // (GROUP * steps), number % (GROUP * steps)
    wide = tl.minimum(listed - group * GROUP, GROUP)
    own = tl.load(tiles + group * GROUP + turn % wide)
    step = begin + turn // wide
    if FORWARD:
        other = (own * stride + step) % period
        met = (other < reached) & ((step != half) | (own < step))
    else:
        place = (own - step + period) % period
        other = place // stride
        met = (other < reached) & (place % stride == 0)
    return own, tl.where(met, other, -1)


@triton.jit
def floor_of(limit, own, other):
    """The least sum of a pair within the limit, errors `own` and at most `other`: half of a squared reach,
    rounded up.
    """
    reach = limit + own + other
    half_square = tl.minimum(tl.ceil(reach * reach * 0.500001 + 2.0), ALWAYS).to(tl.int32)
    return tl.where(limit >= 0, -half_square, NEVER)


@triton.jit
def along(line, AXIS: tl.constexpr):
    """One number a row (AXIS 1) or a column (AXIS 0), to be broadcast over the tile."""
    return tl.expand_dims(line, AXIS)


@triton.jit
def append(state, capacity, line, squared, position, keep, slot):
    """Candidates into the slots of their rows; beyond the capacity they are dropped; `count` shows it."""
    at = state.waiting + line.to(tl.int64) * capacity + slot
    tl.store(at, (squared.to(tl.int64) << 32) | position, mask=keep & (slot < capacity))


@triton.jit
def note_one(state, capacity, line, limit, own, odd, position, error, sum, there):
    """One pair of each line, if its own errors leave it within the limit; odd: how many of its norms are."""
    squared = odd - 2 * sum
    keep = there & (limit >= 0) & (tl.sqrt(squared.to(tl.float32)) - own - error <= limit)
    slot = tl.atomic_add(state.count + line, 1, mask=keep, sem="relaxed")
    append(state, capacity, line, squared, position, keep, slot)


@triton.jit
def note_all(
    sums, near, state, capacity, line, limit, own, odd, position, error, other_odd, AXIS: tl.constexpr
):
    """The pairs of `near`. line, limit, own error and odd (norm & 1): one for each line, a row (AXIS 1) or a
    column (AXIS 0); position, error and other_odd: one for each of the others.
    """
    squared = along(odd, AXIS) + along(other_odd, 1 - AXIS) - 2 * tl.where(near, sums, 0)
    least = tl.sqrt(squared.to(tl.float32)) - along(own, AXIS) - along(error, 1 - AXIS)
    keep = near & (least <= along(limit, AXIS))
    found = tl.sum(keep.to(tl.int32), axis=AXIS)
    first = tl.atomic_add(state.count + line, found, mask=found > 0, sem="relaxed")
    slot = along(first, AXIS) + tl.cumsum(keep.to(tl.int32), axis=AXIS) - 1
    append(state, capacity, along(line, AXIS), squared, along(position, 1 - AXIS), keep, slot)


NUMBERS = [
    "row_first", "row_n", "column_first", "column_n",
    "listed", "begin", "steps", "reached", "period", "stride", "half",
]  # fmt: skip


@triton.jit(do_not_specialize=NUMBERS)  # or rounds would be compiled each for itself
def filter_tiles(
    rows, columns, row, column, row_id, column_id, row_first, row_n, column_first, column_n, capacity,
    tiles, listed, begin, steps, reached, period, stride, half, crowded, crowds,
    WIDTH: tl.constexpr, TILE: tl.constexpr, SIDE: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    SELF: tl.constexpr, FORWARD: tl.constexpr, CROWDED: tl.constexpr,
):  # fmt: skip
    """A tile, SIDE = TILE, or of one that is listed in `crowded` [crowds] a part, SIDE x SIDE.

    Columns take nothing where column.limit is None. SELF: a position does not meet itself.
    """
    PARTS: tl.constexpr = TILE // SIDE
    number, part = tl.program_id(0) // (PARTS * PARTS), tl.program_id(0) % (PARTS * PARTS)
    if CROWDED:
        number = tl.load(crowded + number)
    own, other = meeting(tiles, listed, begin, steps, reached, period, stride, half, number, GROUP, FORWARD)
    if other < 0:
        return
    first_row, first_column = own * TILE + part // PARTS * SIDE, other * TILE + part % PARTS * SIDE
    i, j = first_row + tl.arange(0, SIDE), first_column + tl.arange(0, SIDE)
    row_there, column_there = i < row_n, j < column_n
    row_at, column_at = row_first + i, column_first + j  # positions

    row_norm = tl.load(rows.norm + row_at, mask=row_there, other=0)
    column_norm = tl.load(columns.norm + column_at, mask=column_there, other=0)
    row_half = tl.where(row_there, row_norm >> 1, FAR)
    column_half = tl.where(column_there, column_norm >> 1, FAR)
    sums = -row_half[:, None] - column_half[None, :]
    x = rows.code + row_at.to(tl.int64)[:, None] * WIDTH + tl.arange(0, DEPTH)[None, :]
    y = columns.code + column_at.to(tl.int64)[:, None] * WIDTH + tl.arange(0, DEPTH)[None, :]
    for p in range(0, WIDTH, DEPTH):
        sums = tl.dot(tl.load(x + p), tl.trans(tl.load(y + p)), sums, out_dtype=tl.int32)

    row_error = tl.load(rows.error + row_at, mask=row_there, other=0.0)
    column_error = tl.load(columns.error + column_at, mask=column_there, other=0.0)
    row_limit = tl.load(row.limit + i, mask=row_there, other=-1.0)
    row_floor = floor_of(row_limit, row_error, tl.max(column_error, axis=0))
    lowest = tl.broadcast_to(row_floor[:, None], (SIDE, SIDE))
    if column.limit is not None:
        column_limit = tl.load(column.limit + j, mask=column_there, other=-1.0)
        if SELF:
            column_limit = tl.where(own == other, -1.0, column_limit)  # its rows see all of this tile
        column_floor = floor_of(column_limit, column_error, tl.max(row_error, axis=0))
        lowest = tl.minimum(lowest, column_floor[None, :])
    if tl.max(sums - lowest) < 0:
        return

    if CROWDED:
        meet = tl.full((SIDE, SIDE), 1, tl.int1)
        if SELF:
            meet = row_at[:, None] != column_at[None, :]
        if row_id is not None:
            own_id = tl.load(row_id + row_at, mask=row_there, other=0)
            other_id = tl.load(column_id + column_at, mask=column_there, other=0)
            meet = meet & (own_id[:, None] != other_id[None, :])
        odd, column_odd = row_norm & 1, column_norm & 1
        near = meet & (sums >= row_floor[:, None])
        note_all(
            sums, near, row, capacity, i, row_limit, row_error, odd, column_at, column_error, column_odd, 1
        )
        if column.limit is not None:
            near = meet & (sums >= column_floor[None, :])
            note_all(
                sums, near, column, capacity, j,
                column_limit, column_error, column_odd, row_at, row_error, odd, 0,
            )  # fmt: skip
    else:
        most = tl.max(tl.sum((sums >= lowest).to(tl.int32), axis=1), axis=0)
        if most > FEW:
            tl.store(crowded + tl.atomic_add(crowds, 1, sem="relaxed"), number)
            return
        index = tl.arange(0, SIDE)[None, :]
        last = tl.zeros_like(i) + SIDE
        while most > 0:  # one hit of each row, from the last to the first
            pick = tl.max(tl.where((sums >= lowest) & (index < last[:, None]), index, -1), axis=1)
            sum = tl.sum(tl.where(index == pick[:, None], sums, 0), axis=1)
            there = pick >= 0
            other_at = column_first + first_column + pick
            error = tl.load(columns.error + other_at, mask=there, other=0.0)
            odd = (row_norm & 1) + (tl.load(columns.norm + other_at, mask=there, other=0) & 1)
            last, most = pick, most - 1
            if SELF:
                there = there & (other_at != row_at)
            if row_id is not None:
                own_id = tl.load(row_id + row_at, mask=there, other=0)
                there = there & (own_id != tl.load(column_id + other_at, mask=there, other=0))
            note_one(row, capacity, i, row_limit, row_error, odd, other_at, error, sum, there)
            if column.limit is not None:
                limit = tl.load(column.limit + first_column + pick, mask=there, other=-1.0)
                if SELF:
                    limit = tl.where(own == other, -1.0, limit)
                note_one(
                    column, capacity, first_column + pick, limit, error, odd, row_at, row_error, sum, there
                )


def filter(
    rows: Side, columns: Side, ids: tuple[Any, Any], walk: Walk, same: bool, forward: bool, sizes: Sizes
) -> None:
    """Notes the candidates of walk's tiles in the state of `rows`, and of `columns` where that has limits."""
    codes = rows.loaded.codes, columns.loaded.codes
    width, device = codes[0].code.shape[1], codes[0].code.device
    spans = rows.first, rows.n, columns.first, columns.n
    fixed: dict[str, Any] = {
        "WIDTH": width, "TILE": sizes.tile, "DEPTH": sizes.depth if width % sizes.depth == 0 else 64,
        "GROUP": sizes.group, "SELF": same, "FORWARD": forward,
        "num_stages": sizes.stages, "enable_fp_fusion": False,
    }  # fmt: skip
    steps = max(1, sizes.launch // walk.listed)
    for begin in range(walk.begin, walk.begin + walk.steps, steps):
        some = walk._replace(begin=begin, steps=min(steps, walk.begin + walk.steps - begin))
        tiles = some.listed * some.steps
        crowded = torch.empty(tiles, dtype=torch.int32, device=device)
        crowds = torch.zeros(1, dtype=torch.int32, device=device)
        arguments = (*codes, rows.state, columns.state, *ids, *spans, rows.capacity, *some, crowded, crowds)
        filter_tiles[(tiles,)](*arguments, SIDE=sizes.tile, CROWDED=False, num_warps=sizes.warps, **fixed)
        waiting.rest(device)
        parts = crowds.item() * (sizes.tile // sizes.part) ** 2
        if parts:
            filter_tiles[(parts,)](
                *arguments, SIDE=sizes.part, CROWDED=True, num_warps=sizes.part_warps, **fixed
            )
