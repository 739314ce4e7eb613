"""Equal rows, to be searched once: web data holds thousands of copies of one placeholder picture.

Rows of equal hash stand together once sorted; each is then compared with the first of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from .sizes import Sizes

BLOCK_BYTES = 64 << 20  # of rows compared at once


@triton.jit(do_not_specialize=["n"])
def hash_rows(x, n, d, stride, salt, out, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = sum over p of bits(x[i, p]) * salt[p], modulo 2^64: by chance equal for two different rows
    once in 2^33.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < n
    at = x + row.to(tl.int64)[:, None] * stride

    sum = tl.zeros((ROWS, BLOCK), tl.int64)
    begin = 0
    while begin < d:
        p = begin + tl.arange(0, BLOCK)[None, :]
        value = tl.load(at + p, mask=there[:, None] & (p < d), other=0.0) + 0.0  # -0 becomes 0
        sum += value.to(tl.int32, bitcast=True).to(tl.int64) * tl.load(salt + p, mask=p < d, other=0)
        begin += BLOCK

    tl.store(out + row, tl.sum(sum, axis=1), mask=there)


def new_salt(d: int, device: torch.device) -> Any:
    """[d] int64 that nobody can have prepared rows for."""
    return torch.from_numpy(np.frombuffer(secrets.token_bytes(8 * d), np.int64).copy()).to(device)


def hash_block(block: Any, salt: Any, out: Any, sizes: Sizes) -> None:
    """The hashes of rows [m, d] float32 into out [m] int64."""
    m, d = block.shape
    wide = min(1024, triton.next_power_of_2(d))
    rows = max(1, sizes.numbers // wide)
    hash_rows[(triton.cdiv(m, rows),)](block, m, d, block.stride(0), salt, out, ROWS=rows, BLOCK=wide)


def first_of(hashes: Any, d: int, take: Callable[[Any], Any]) -> Any:
    """[n] int64: the first row equal to row i, as floats. take(rows) gives numbered rows as float32 on the
    device.
    """
    n = len(hashes)
    ordered, order = torch.sort(hashes, stable=True)  # rows ascend where hashes are equal
    begins = torch.ones(n, dtype=torch.bool, device=hashes.device)
    begins[1:] = ordered[1:] != ordered[:-1]
    first = torch.empty_like(order)
    first[order] = order[begins][torch.cumsum(begins, 0) - 1]
    del ordered, order, begins

    repeats = torch.nonzero(first != torch.arange(n, device=first.device))[:, 0]
    different = []
    for some in torch.split(repeats, max(1, BLOCK_BYTES // (4 * d))):
        different.append(some[(take(some) != take(first[some])).any(dim=1)])
    if different and len(odd := torch.cat(different)):
        first[odd] = _first_by_bytes(odd, take)
    return first


def _first_by_bytes(rows: Any, take: Callable[[Any], Any]) -> Any:
    """The same among rows whose hash met a different row's. All copies of one are here, as their hashes are
    equal.
    """
    seen: dict[bytes, int] = {}
    numbers, values = rows.tolist(), (take(rows) + 0.0).cpu().numpy()
    found = [seen.setdefault(value.tobytes(), row) for row, value in zip(numbers, values, strict=True)]
    return torch.tensor(found, device=rows.device)
