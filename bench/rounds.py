"""What the rounds of a GPU search bring to a row, without a GPU: candidates, measurements, overflows.

    python bench/rounds.py --n 100000 --k 16 --capacity 512

Follows a sample of rows through the schedule of csrc/gpu/search.cpp with the true codes and the rules of
kernels/cuda/refine.cu, in NumPy. docs/gpu.md quotes it; the sizes in csrc/gpu/side.cpp were chosen by it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

import numpy as np

from clipscan.bench import clustered
from clipscan.engine import as_rows, codebook, reference

Array = np.ndarray
BLOCK = 20_000  # rows encoded or compared at once


@dataclass
class Row:
    """One followed row: bounds and true distances to all others, in code units, and its state."""

    lower: Array  # [n]
    upper: Array  # [n]
    distance: Array  # [n]
    steps: Array  # [n] after how many steps a column is met
    waiting: Array = field(default_factory=lambda: np.empty(0, np.int64))
    best: Array = field(default_factory=lambda: np.empty(0))
    limit: float = np.inf
    passed: int = 0
    measured: int = 0
    overflowed: bool = False

    def meet(self, begin: int, end: int, k: int, capacity: int, settle: bool) -> None:
        columns = np.flatnonzero((self.steps >= begin) & (self.steps < end))
        new = columns[self.lower[columns] <= self.limit]
        self.passed += len(new)
        self.overflowed |= len(self.waiting) + len(new) > capacity
        self.waiting = np.concatenate([self.waiting, new])
        if len(self.waiting) >= k:
            self.limit = min(self.limit, np.partition(self.upper[self.waiting], k - 1)[k - 1])
        self.forget()
        if settle or len(self.waiting) > capacity // 2:
            self.measure(k, k)
        if len(self.waiting) > capacity // 2:
            self.measure(len(self.waiting), k)

    def measure(self, count: int, k: int) -> None:
        order = np.argsort(self.lower[self.waiting] + self.upper[self.waiting], kind="stable")
        nearest, self.waiting = self.waiting[order[:count]], self.waiting[order[count:]]
        self.measured += len(nearest)
        self.best = np.sort(np.concatenate([self.best, self.distance[nearest]]))[:k]
        if len(self.best) == k:
            self.limit = min(self.limit, self.best[-1])
        self.forget()

    def forget(self) -> None:
        self.waiting = self.waiting[self.lower[self.waiting] <= self.limit]


def follow(x: Array, sample: Array, tile: int) -> list[Row]:
    """The sampled rows of x [n, d], knowing nothing yet."""
    book = codebook.fit([as_rows(x)])
    factor = reference.factor(book)
    blocks = [reference.encode(x[at : at + BLOCK], book) for at in range(0, len(x), BLOCK)]
    codes, error = (np.concatenate(part) for part in zip(*blocks, strict=True))
    norm = (codes.astype(np.int32) ** 2).sum(axis=1)
    tiles = -(-len(x) // tile)
    rows = []
    for i in sample:
        own = codes[i].astype(np.float32)
        dots = [codes[at : at + BLOCK].astype(np.float32) @ own for at in range(0, len(x), BLOCK)]
        delta = np.sqrt(np.maximum(norm[i] + norm - 2 * np.concatenate(dots), 0))
        apart = (np.arange(len(x)) // tile - i // tile) % tiles
        steps = np.minimum(apart, tiles - apart)
        steps[i] = -1  # never itself
        distance = factor * np.linalg.norm(x - x[i], axis=1)
        rows.append(Row(delta - error - error[i], delta + error + error[i], distance, steps))
    return rows


def worth_settling(begin: int, end: int, steps: int) -> bool:
    """As in csrc/gpu/search.cpp."""
    share = 0.64 * steps
    while share >= 1:
        if begin < share <= end:
            return True
        share /= 4
    return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("n", 100_000),
        ("d", 512),
        ("k", 16),
        ("capacity", 512),
        ("tile", 256),
        ("rows", 150),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-settling", action="store_true", help="true limits at the end only")
    asked = parser.parse_args()

    x = clustered(asked.n, asked.d)
    rows = follow(x, np.random.default_rng(1).choice(asked.n, asked.rows, replace=False), asked.tile)
    steps = -(-asked.n // asked.tile) // 2 + 1
    print(f"{asked.n} x {asked.d}, k={asked.k}, capacity {asked.capacity}, tiles of {asked.tile}")
    print(f"{'columns met':>12} {'new, median':>12} {'most':>6} {'waiting':>8}")
    begin = 0
    while begin < steps:
        end = min(steps, max(1, 2 * begin))
        settle = (
            not asked.no_settling and worth_settling(begin, end, steps) and end * asked.tile > 16 * asked.k
        )
        before = [row.passed for row in rows]
        for row in rows:
            row.meet(begin, end, asked.k, asked.capacity, settle)
        new = [row.passed - old for row, old in zip(rows, before, strict=True)]
        waiting = np.median([len(row.waiting) for row in rows])
        met = min(asked.n, (2 * end - 1) * asked.tile)
        print(f"{met:12} {np.median(new):12.0f} {max(new):6} {waiting:8.0f}")
        begin = end
    for row in rows:
        if len(row.waiting) > 2 * asked.k:
            row.measure(asked.k, asked.k)
        row.measure(len(row.waiting), asked.k)
    print(
        f"a row: {np.mean([row.passed for row in rows]):.0f} pairs pass, "
        f"{np.mean([row.measured for row in rows]):.0f} are measured; "
        f"{np.mean([row.overflowed for row in rows]):.1%} of the rows overflow and are searched again"
    )


if __name__ == "__main__":
    main()
