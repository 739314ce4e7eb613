"""Candidates -> exact float32 distances, the second kernel of refine.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .sizes import Sizes
from .state import MEASURED, POSITION, Side


class Originals(NamedTuple):
    """Original rows on the device; position p is row which[p], or p where that is None."""

    data: Any  # [rows, d] of any float type, the numbers of a row side by side
    stride: int
    which: Any = None


@triton.jit(do_not_specialize=["first", "count", "reach"])
def measure(
    state, first, capacity, lines, count, reach, x, y, own_place, place, D: tl.constexpr, PAIRS: tl.constexpr
):  # fmt: skip
    """Candidates up to their row's bar become keys. The first `reach` slots of each row are looked at.

    x, y: original rows of the queries and the others. Where `place` [count, reach] says so, candidate (line,
    slot) is row place of y, and its query is row own_place of x. The sum of squares is that of
    csrc/kernel_measure.inl:measure4: sixteen lanes, squares rounded before they are added (so the launch
    forbids contraction to FMA), then a tree.
    """
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    number, slot = (pair // reach).to(tl.int32), (pair % reach).to(tl.int32)
    there = number < count
    line = number
    if lines is not None:
        line = tl.load(lines + number, mask=there, other=0)
    there = there & (slot < tl.load(state.count + line, mask=there, other=0))
    at = state.waiting + line.to(tl.int64) * capacity + slot
    item = tl.load(at, mask=there, other=0)
    there = there & ((item >> 32).to(tl.int32) <= tl.load(state.bar + line, mask=there, other=-1))
    if tl.max(there.to(tl.int32), axis=0) == 0:
        return
    position = item & POSITION
    own, other = (first + line).to(tl.int64), position
    if x.which is not None:
        own = tl.load(x.which + own, mask=there, other=0).to(tl.int64)
    if y.which is not None:
        other = tl.load(y.which + other, mask=there, other=0).to(tl.int64)
    if place is not None:
        own = tl.load(own_place + number, mask=there, other=0).to(tl.int64)
        other = tl.load(place + pair, mask=there, other=0).to(tl.int64)

    sums = tl.zeros((PAIRS, 16), tl.float32)
    lane = tl.arange(0, 16)[None, :]
    own_row, other_row = x.data + own[:, None] * x.stride + lane, y.data + other[:, None] * y.stride + lane
    for begin in tl.range(0, D, 16, loop_unroll_factor=4):  # four loads under way at once
        here = there[:, None] & (begin + lane < D)
        a = tl.load(own_row + begin, mask=here, other=0.0).to(tl.float32)
        b = tl.load(other_row + begin, mask=here, other=0.0).to(tl.float32)
        difference = a - b
        sums += difference * difference
    for half in tl.static_range(4):  # lanes l and l + 8, l + 4, l + 2, l + 1
        sums = tl.reshape(sums, (PAIRS, 2, 8 >> half))
        low, high = tl.split(tl.permute(sums, (0, 2, 1)))
        sums = low + high

    distance = tl.sqrt_rn(tl.reshape(sums, (PAIRS,)))
    key = (distance.to(tl.int32, bitcast=True).to(tl.int64) << 32) | position
    tl.store(at, key | MEASURED, mask=there)


def launch_measure(
    side: Side, lines: Any, reach: int, x: Originals, y: Originals, sizes: Sizes,
    own_place: Any = None, place: Any = None,
) -> None:  # fmt: skip
    count = side.n if lines is None else len(lines)
    measure[(triton.cdiv(count * reach, sizes.pairs),)](
        side.state, side.first, side.capacity, lines, count, reach, x, y, own_place, place,
        D=side.loaded.d, PAIRS=sizes.pairs, enable_fp_fusion=False,
    )  # fmt: skip
