"""How refine.py goes through candidates and keys: a program owns LINES rows and looks at BLOCK items of each
together.
"""

import triton
import triton.language as tl

from .state import MEASURED


@triton.jit
def own_lines(lines, count, LINES: tl.constexpr):
    """The rows of this program, and which of them are there. lines None: all rows, else those listed."""
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    there = line < count
    if lines is not None:
        line = tl.load(lines + line, mask=there, other=0)
    return tl.where(there, line, 0), there


@triton.jit
def load_block(items, held, begin, BLOCK: tl.constexpr):
    """Items [begin, begin + BLOCK) of each line, and which of them are there: the first `held` are."""
    at = begin + tl.arange(0, BLOCK)[None, :]
    there = at < held[:, None]
    return tl.load(items + at, mask=there, other=0), there


@triton.jit
def load_squared(items, held, begin, BLOCK: tl.constexpr):
    """The same where all are candidates, none measured yet: with their squared distances."""
    item, there = load_block(items, held, begin, BLOCK)
    return item, (item >> 32).to(tl.int32), there


@triton.jit
def load_keys(items, held, begin, CANDIDATES: tl.constexpr, BLOCK: tl.constexpr):
    """The keys among them. All of `best` are keys; of the candidates, those that were measured."""
    key, there = load_block(items, held, begin, BLOCK)
    if CANDIDATES:
        there = key < 0  # what is not there is 0
        key = key ^ MEASURED
    return key, there


@triton.jit
def how_many(which):
    return tl.sum(which.to(tl.int32), axis=1)


@triton.jit
def widened(low, high, value, there):
    """The interval [low, high] of each line, with its values in it."""
    low = tl.minimum(low, tl.min(tl.where(there, value, low[:, None]), axis=1))
    return low, tl.maximum(high, tl.max(tl.where(there, value, high[:, None]), axis=1))


@triton.jit
def pack(items, filled, item, keep):
    """Those to keep follow the first `filled` of each line; returns how many there are then. A slot is at
    most where its item was: nothing unread is overwritten.
    """
    tl.store(items + filled[:, None] + tl.cumsum(keep.to(tl.int32), axis=1) - 1, item, mask=keep)
    return filled + how_many(keep)


@triton.jit
def halved(low, high, middle, within, k):
    """The interval of the k-th smallest, when `within` are at most `middle`; of length 0 once k are."""
    lower = tl.where(within > k, low, tl.where(within == k, middle, middle + 1))
    return tl.where(low < high, lower, low), tl.where(within >= k, tl.minimum(high, middle), high)
