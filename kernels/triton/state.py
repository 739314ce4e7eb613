"""What the kernels of this folder take: codes, and what is known of the rows at work. The same words as
kernels/cuda/kernels.h.

A candidate is one int64: |q_i - q_j|^2 above, the position of j below. A measured one is a key, its
distance's float32 bits above, with the sign bit set while it still stands among the candidates. Letters: n
rows, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import triton.language as tl

NO_KEY = 0x7F800000FFFFFFFF  # nobody: infinitely far, no row
MEASURED = tl.constexpr(-(1 << 63))  # the sign bit
POSITION = tl.constexpr(0xFFFFFFFF)  # of a candidate or a key
NONE, ALL = tl.constexpr(-1), tl.constexpr(0x7FFFFFFF)  # values of `bar`


class Codes(NamedTuple):
    """int8 codes of a set; `code` has rows of zeros behind the last, so that a whole tile can be read."""

    code: Any  # [n + padding, width] int8
    norm: Any  # [n] int32, |q|^2
    error: Any  # [n] float32, at least |y - q|


class State(NamedTuple):
    """What is known of n rows at work. limit None: they are only met, and take nothing."""

    limit: Any = None  # [n] float32: no neighbour is farther, in code units; only falls
    count: Any = None  # [n] int32: candidates appended, those beyond the capacity too
    kept: Any = None  # [n] int32: how many of them the last refine left
    waiting: Any = None  # [n, capacity] int64: candidates
    bar: Any = None  # [n] int32: candidates up to this squared distance are to be measured
    wanted: Any = None  # [n] int32: how many those are
    overflowed: Any = None  # [n] int32: 1 where candidates were beyond the capacity
    best: Any = None  # [n, k] int64: keys, in any order
    known: Any = None  # [n] int32: how many of them are real, the first ones


@dataclass
class Side:
    """Rows at work: row i is position first + i of `loaded`. Numbers are kept apart from `state`, as kernels
    take them: a number in a tuple has them compiled again for 1, and for multiples of 16.
    """

    loaded: Any
    first: int
    n: int
    capacity: int = 0  # candidates that a row can hold
    k: int = 0
    state: State = field(default_factory=State)


class Units(NamedTuple):
    """From distances to limits, rounding outwards; see csrc/refine.h."""

    bound_scale: float
    bound_add: float
    distance_scale: float
    distance_add: float


def row_bytes(capacity: int, k: int) -> int:
    """What `start` takes for a row."""
    return 8 * capacity + 8 * k + 28


def start(limit: Any, capacity: int, k: int) -> State:
    """Nothing found yet; limit [n] float32 in code units."""
    n, device = len(limit), limit.device
    count, kept, bar, wanted, overflowed, known = (
        torch.zeros(n, dtype=torch.int32, device=device) for _ in range(6)
    )
    waiting = torch.empty((n, capacity), dtype=torch.int64, device=device)
    best = torch.full((n, k), NO_KEY, dtype=torch.int64, device=device)
    return State(limit, count, kept, waiting, bar, wanted, overflowed, best, known)
