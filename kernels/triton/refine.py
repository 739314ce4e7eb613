"""Candidates -> limits, measured distances, the k nearest. What csrc/refine.cpp does for one row at a time.

Three kernels that follow each other. `tighten`: the k nearest candidates, by codes, prove a limit; who is
beyond leaves. `measure` (measure.py): candidates become keys, in place. `merge`: the k smallest keys are
kept, and prove a limit of their own. A program owns LINES rows and goes through their candidates BLOCK at a
time; the k-th smallest is found by halving an interval and counting, which needs no sorting network, and so
no limit on k or on the candidates.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .lines import halved, how_many, load_block, load_keys, load_squared, own_lines, pack, widened
from .sizes import Sizes
from .state import ALL, NO_KEY, NONE, POSITION, Side

TIGHTEN, SETTLE, FINISH = 0, 1, 2  # measure where a buffer is half full; the k that look nearest; all
LARGEST = tl.constexpr(1 << 30)  # no squared distance of codes is above
UNKNOWN = tl.constexpr(NO_KEY)


@triton.jit(do_not_specialize=["first", "k", "count"])
def tighten(
    state, first, capacity, k, lines, count, query_error, other_error, units,
    SETTLED: tl.constexpr, ALL_OF_THEM: tl.constexpr, LINES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Limits from candidates, and who is beyond leaves; `bar`, `wanted`, `overflowed` say what comes next."""
    line, there = own_lines(lines, count, LINES)
    appended = tl.load(state.count + line, mask=there, other=0)
    kept = tl.load(state.kept + line, mask=there, other=0)
    limit = tl.load(state.limit + line, mask=there, other=0.0)
    own = tl.load(query_error + first + line, mask=there, other=0.0)
    held = tl.minimum(appended, capacity)
    waiting = state.waiting + line.to(tl.int64)[:, None] * capacity
    most = tl.max(held, axis=0)

    # The k nearest: `high` ends where k candidates are within it, or more if some are as far as the k-th.
    low, high = tl.zeros_like(held) + LARGEST, tl.zeros_like(held)
    for begin in range(0, most, BLOCK):
        _, squared, here = load_squared(waiting, held, begin, BLOCK)
        low, high = widened(low, high, squared, here)
    enough = there & (held >= k)
    low, high = tl.where(enough, low, 0), tl.where(enough, high, 0)
    while tl.max(high - low, axis=0) > 0:
        middle = low + (high - low) // 2
        within = tl.zeros_like(held)
        for begin in range(0, most, BLOCK):
            _, squared, here = load_squared(waiting, held, begin, BLOCK)
            within += how_many(here & (squared <= middle[:, None]))
        low, high = halved(low, high, middle, within, k)

    upper = tl.zeros_like(own)
    for begin in range(0, most, BLOCK):
        item, squared, here = load_squared(waiting, held, begin, BLOCK)
        near = here & (squared <= high[:, None]) & enough[:, None]
        error = tl.load(other_error + (item & POSITION), mask=near, other=0.0)
        bound = tl.where(near, tl.sqrt_rn(squared.to(tl.float32)) + error, 0.0)
        upper = tl.maximum(upper, tl.max(bound, axis=1))
    proven = (upper + own) * units.bound_scale + units.bound_add
    limit = tl.where(enough, tl.minimum(limit, proven), limit)

    # What came since the last refine is incomplete where the row overflowed: it will come again.
    overflowed = appended > capacity
    held = tl.where(overflowed, kept, held)
    nearest = tl.where(enough, high, ALL)
    left, wanted = tl.zeros_like(held), tl.zeros_like(held)
    for begin in range(0, most, BLOCK):
        item, squared, here = load_squared(waiting, held, begin, BLOCK)
        error = tl.load(other_error + (item & POSITION), mask=here, other=0.0)
        keep = here & (tl.sqrt_rn(squared.to(tl.float32)) - error <= (limit + own)[:, None])
        left = pack(waiting, left, item, keep)
        wanted += how_many(keep & (squared <= nearest[:, None]))

    full = left > capacity // 2
    if ALL_OF_THEM:
        full = left >= 0
    bar = tl.where(full, ALL, NONE)
    if SETTLED:
        bar = tl.where(full, ALL, nearest)
    wanted = tl.where(bar == ALL, left, tl.where(bar == NONE, 0, wanted))
    tl.store(state.limit + line, limit, mask=there)
    tl.store(state.count + line, left, mask=there)
    tl.store(state.kept + line, left, mask=there)
    tl.store(state.bar + line, bar, mask=there)
    tl.store(state.wanted + line, wanted, mask=there)
    tl.store(state.overflowed + line, overflowed.to(tl.int32), mask=there)


@triton.jit(do_not_specialize=["first", "k", "count"])
def merge(
    state, first, capacity, k, lines, count, query_error, other_error, units,
    LINES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Measured candidates leave; the k smallest keys of theirs and of `best` are the new `best`."""
    line, there = own_lines(lines, count, LINES)
    wanted = tl.load(state.wanted + line, mask=there, other=0)
    if tl.max(wanted, axis=0) == 0:
        return
    held = tl.load(state.count + line, mask=there, other=0)
    known = tl.load(state.known + line, mask=there, other=0)
    limit = tl.load(state.limit + line, mask=there, other=0.0)
    own = tl.load(query_error + first + line, mask=there, other=0.0)
    waiting = state.waiting + line.to(tl.int64)[:, None] * capacity
    best = state.best + line.to(tl.int64)[:, None] * k
    most, most_known = tl.max(held, axis=0), tl.max(known, axis=0)

    # The k smallest: keys differ, so `high` ends where exactly k are within it. Fewer are all taken.
    full = known + wanted >= k
    low, high = tl.zeros_like(line).to(tl.int64) + UNKNOWN, tl.zeros_like(line).to(tl.int64)
    for begin in range(0, most_known, BLOCK):
        key, here = load_keys(best, known, begin, False, BLOCK)
        low, high = widened(low, high, key, here)
    for begin in range(0, most, BLOCK):
        key, here = load_keys(waiting, held, begin, True, BLOCK)
        low, high = widened(low, high, key, here)
    more = known + wanted > k
    low, high = tl.where(more, low, 0), tl.where(more, high, 0)
    while tl.max(high - low, axis=0) > 0:
        middle = low + (high - low) // 2
        within = tl.zeros_like(held)
        for begin in range(0, most_known, BLOCK):
            key, here = load_keys(best, known, begin, False, BLOCK)
            within += how_many(here & (key <= middle[:, None]))
        for begin in range(0, most, BLOCK):
            key, here = load_keys(waiting, held, begin, True, BLOCK)
            within += how_many(here & (key <= middle[:, None]))
        low, high = halved(low, high, middle, within, k)
    high = tl.where(more, high, UNKNOWN)

    # Those of `best` close ranks, the new ones follow.
    filled, largest = tl.zeros_like(held), tl.zeros_like(high)
    for begin in range(0, most_known, BLOCK):
        key, here = load_keys(best, known, begin, False, BLOCK)
        keep = here & (key <= high[:, None])
        filled = pack(best, filled, key, keep)
        largest = tl.maximum(largest, tl.max(tl.where(keep, key, 0), axis=1))
    for begin in range(0, most, BLOCK):
        key, here = load_keys(waiting, held, begin, True, BLOCK)
        keep = here & (key <= high[:, None])
        filled = pack(best, filled, key, keep)
        largest = tl.maximum(largest, tl.max(tl.where(keep, key, 0), axis=1))
    farthest = (largest >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    limit = tl.where(full, tl.minimum(limit, farthest * units.distance_scale + units.distance_add), limit)

    left = tl.zeros_like(held)
    for begin in range(0, most, BLOCK):
        item, here = load_block(waiting, held, begin, BLOCK)
        here = here & (item >= 0)
        error = tl.load(other_error + (item & POSITION), mask=here, other=0.0)
        squared = (tl.maximum(item, 0) >> 32).to(tl.float32)
        keep = here & (tl.sqrt_rn(squared) - error <= (limit + own)[:, None])
        left = pack(waiting, left, item, keep)
    tl.store(state.known + line, filled, mask=there)
    tl.store(state.limit + line, limit, mask=there)
    tl.store(state.count + line, left, mask=there)
    tl.store(state.kept + line, left, mask=there)


def launch_tighten(side: Side, other: Any, lines: Any, mode: int, sizes: Sizes) -> None:
    """For the rows `lines` of a side, None: all; `other` holds those that they met."""
    count = side.n if lines is None else len(lines)
    tighten[(triton.cdiv(count, sizes.lines),)](
        side.state, side.first, side.capacity, side.k, lines, count,
        side.loaded.codes.error, other.codes.error, side.loaded.units,
        SETTLED=mode == SETTLE, ALL_OF_THEM=mode == FINISH,
        LINES=sizes.lines, BLOCK=sizes.block, num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip


def launch_merge(side: Side, other: Any, lines: Any, sizes: Sizes) -> None:
    count = side.n if lines is None else len(lines)
    merge[(triton.cdiv(count, sizes.lines),)](
        side.state, side.first, side.capacity, side.k, lines, count,
        side.loaded.codes.error, other.codes.error, side.loaded.units,
        LINES=sizes.lines, BLOCK=sizes.block, num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
