"""Rows -> int8 codes, their squared norms and what they leave out. The definition is
clipscan/engine/reference.py:encode.

Every float operation is done in the order of clipscan/engine/codebook.py:rotate, so that codes agree bit by
bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from clipscan.engine.codebook import Codebook

from .sizes import Sizes
from .state import Codes

STEP = 2.0**-24  # of float32


@triton.jit(do_not_specialize=["n"])
def transform(y, n, stride, first, scale, ROWS: tl.constexpr, SPAN: tl.constexpr, STAGES: tl.constexpr):
    """Hadamard transform of columns [first, first + SPAN) of y [n, stride], in place, then times `scale`."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = y + row.to(tl.int64)[:, None] * stride + first + tl.arange(0, SPAN)[None, :]
    there = (row < n)[:, None]

    value = tl.load(at, mask=there, other=0.0)
    for stage in tl.static_range(STAGES):  # h = 1, 2, 4, ...: a + b, a - b
        pairs = tl.reshape(value, (ROWS * SPAN // (2 << stage), 2, 1 << stage))
        a, b = tl.split(tl.permute(pairs, (0, 2, 1)))
        value = tl.reshape(tl.permute(tl.join(a + b, a - b), (0, 2, 1)), (ROWS, SPAN))

    tl.store(at, value * scale, mask=there)


@triton.jit(do_not_specialize=["n", "first"])
def quantise(y, n, width, gain, codes, first, stride, length, left, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """y [n, width] times the gain -> codes from row `first` on; length and left [n]: |y|^2 and |y - q|^2 in
    float32.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < n
    source, target = row.to(tl.int64)[:, None] * width, (first + row).to(tl.int64)[:, None] * stride

    squares = tl.zeros((ROWS, BLOCK), tl.int32)
    length_sum = tl.zeros((ROWS, BLOCK), tl.float32)
    left_sum = tl.zeros((ROWS, BLOCK), tl.float32)
    begin = 0
    while begin < width:
        p = begin + tl.arange(0, BLOCK)[None, :]
        here = there[:, None] & (p < width)
        x = tl.load(y + source + p, mask=here, other=0.0) * gain
        inside = tl.minimum(tl.maximum(x, -127.0), 127.0)
        q = (inside + 12582912.0) - 12582912.0  # 1.5 * 2^23: adding it rounds to the nearest, ties to even
        e = x - q
        length_sum += x * x
        left_sum += e * e
        squares += q.to(tl.int32) * q.to(tl.int32)
        tl.store(codes.code + target + p, q.to(tl.int8), mask=here)
        begin += BLOCK

    tl.store(codes.norm + first + row, tl.sum(squares, axis=1), mask=there)
    tl.store(length + row, tl.sum(length_sum, axis=1), mask=there)
    tl.store(left + row, tl.sum(left_sum, axis=1), mask=there)


def encode(block: Any, first: int, book: Codebook, codes: Codes, sizes: Sizes) -> None:
    """Rows [m, d] float32 on the device become codes first, first + 1, ...; codes.code is zero where not yet
    written.
    """
    m, device, width = len(block), block.device, book.width
    span = 1 << (width.bit_length() - 1)
    sign = torch.from_numpy(book.sign).to(device)
    y = torch.zeros((m, width), dtype=torch.float32, device=device)
    torch.sub(block, torch.from_numpy(book.centre).to(device), out=y[:, : block.shape[1]])
    y *= sign[0]
    if span == width:
        _transform(y, 0, span, 1.0, sizes)
    else:
        shrink = 1 / math.sqrt(span)
        _transform(y, 0, span, shrink, sizes)
        y *= sign[1]
        _transform(y, width - span, span, shrink, sizes)

    length, left = (torch.empty(m, dtype=torch.float32, device=device) for _ in range(2))
    wide = min(1024, triton.next_power_of_2(width))
    rows = max(1, sizes.numbers // wide)
    quantise[(triton.cdiv(m, rows),)](
        y, m, width, book.gain, codes, first, codes.code.stride(0), length, left, ROWS=rows, BLOCK=wide,
        enable_fp_fusion=False,
    )  # fmt: skip
    codes.error[first : first + m] = _round_up(left.double(), length.double(), width, span)


def _transform(y: Any, first: int, span: int, scale: float, sizes: Sizes) -> None:
    rows = max(1, sizes.numbers // span)
    transform[(triton.cdiv(len(y), rows),)](
        y, len(y), y.stride(0), first, scale, ROWS=rows, SPAN=span, STAGES=span.bit_length() - 1,
        enable_fp_fusion=False,
    )  # fmt: skip


def _round_up(left: Any, length: Any, width: int, span: int) -> Any:
    """The allowance for float32 rounding, as in csrc/kernel_encode.inl: one step a butterfly stage and a
    few more on y (relative to its length), one step a term on the two sums, in whatever order.
    """
    terms = 1.0 + (width + 16) * STEP
    steps = (2 * span.bit_length() + 16) * STEP
    return ((left.sqrt() * terms + length.sqrt() * terms * steps) * (1 + 32 * STEP)).float()
