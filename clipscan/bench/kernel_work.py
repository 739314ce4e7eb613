"""What a kernel of the CUDA engine has to do: a measurement's plan, operations of tiles, bytes to move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clipscan.engine import cuda
from clipscan.errors import InputError

ROWS = 128  # of a filter's tile
TILES = {"mma": 128, "wgmma": 256}  # filter -> columns of its tile: as in kernels/cuda/kernels.h
CHUNK = 64  # codes of a row are padded to a multiple
WARM = 3  # runs that are not counted
TERA, GIGA = "Top/s", "GB/s"


@dataclass(frozen=True)
class KernelPlan:
    """n generated rows of width d, k neighbours, on CUDA device `device`, in `rounds` counted runs."""

    n: int = 200_000
    d: int = 512
    k: int = 16
    device: int = 0
    rounds: int = 20

    def __post_init__(self) -> None:
        if min(self.d, self.rounds) < 1 or self.device < 0:
            raise InputError("d and rounds must be at least 1, device at least 0")
        if not 1 <= self.k < self.n:
            raise InputError(f"k must lie between 1 and n - 1 = {self.n - 1}, got {self.k}")
        if reason := cuda.LIMITS.refusal(self.k, self.d):
            raise InputError(f"back-end 'cuda' {reason}")

    @property
    def capacity(self) -> int:
        """Candidates that a row can hold, as csrc/gpu/side.cpp gives it where memory is plenty."""
        return min(4096, max(256, 32 * self.k))


class KernelRun(NamedTuple):
    """What a kernel did in each of its runs."""

    kernel: str
    milliseconds: Sequence[float]
    work: float  # operations or bytes
    unit: str
    passed: int | None = None
    measured: int | None = None


def chunks(d: int) -> int:
    return -(-d // CHUNK)


def steps(n: int, name: str, both: bool) -> tuple[int, int]:
    """The band of all steps: half of the circle of column tiles where a pair serves both of its rows."""
    tiles = -(-n // TILES[name])
    return 0, tiles // 2 + 1 if both else tiles


def products(n: int, d: int, name: str, begin: int, end: int, both: bool) -> int:
    """int8 products in the tiles of a band of steps, padding included."""
    tile = TILES[name]
    row_tiles, column_tiles = -(-n // ROWS), -(-n // tile)
    tiles = row_tiles * (end - begin)
    if both and column_tiles % 2 == 0 and begin <= column_tiles // 2 < end:
        tiles -= max(0, row_tiles - column_tiles // 2 * tile // ROWS)  # opposite tiles meet once
    return tiles * ROWS * tile * chunks(d) * CHUNK


def refined_bytes(plan: KernelPlan, passed: int, measured: int) -> int:
    """Candidates once; where some are measured, their rows, each query's own, its best before and after."""
    measuring = plan.n * (4 * plan.d + 16 * plan.k) if measured else 0
    return 8 * passed + 4 * plan.d * measured + measuring
