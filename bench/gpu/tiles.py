"""Tiles of the mma filter other than the one that is built in, compiled while this runs: is one faster?"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import nvrtc

from clipscan.bench import clustered
from clipscan.bench.kernel_work import CHUNK, WARM, KernelPlan, chunks, steps
from clipscan.bench.kernels import limit_for
from clipscan.engine import as_rows, codebook, cores, cuda

GROUP = 16  # row tiles that work together: as in kernels/cuda/filter.cuh


class TileShape(NamedTuple):
    """ROWS, COLUMNS, STAGES, RUN of filter_mma_kernel. More rows than columns would note pairs near the
    diagonal twice; more than 256 threads leave too few registers each."""

    rows: int
    columns: int
    stages: int
    run: int

    @property
    def name(self) -> str:
        return f"gpu::filter_mma_kernel<{self.rows}, {self.columns}, {self.stages}, {self.run}>"

    @property
    def threads(self) -> int:
        return self.rows // 64 * (self.columns // 64) * 32

    @property
    def shared(self) -> int:
        """Bytes: STAGES buffers of both sides, norms and reaches of two tiles."""
        return (self.rows + self.columns) * (self.stages * CHUNK + 2 * 2 * 4)

    def blocks(self, n: int, begin: int, end: int) -> int:
        """As Grid in filter.cuh counts them."""
        row_tiles, runs = ceil(n / self.rows), ceil((end - begin) / self.run)
        return ceil(row_tiles / GROUP) * GROUP * runs


BUILT_IN = TileShape(128, 128, 4, 16)
TILES = [
    BUILT_IN,
    TileShape(128, 128, 3, 16),
    TileShape(128, 128, 6, 16),
    TileShape(128, 128, 4, 8),
    TileShape(128, 128, 4, 32),
    TileShape(64, 128, 4, 16),
    TileShape(128, 256, 3, 16),
    TileShape(128, 256, 4, 16),
    TileShape(64, 256, 4, 16),
]


def source(task_bytes: int) -> str:
    """The kernel, and that this page reckons as it does."""
    lines = ['#include "filter_mma.cuh"', f"static_assert(sizeof(gpu::FilterTask) == {task_bytes});"]
    for tile in TILES:
        shape = f"gpu::Mma<{tile.rows}, {tile.columns}, {tile.stages}>"
        lines.append(
            f"static_assert({shape}::SHARED == {tile.shared} && {shape}::THREADS == {tile.threads});"
        )
    return "\n".join(lines)


def measure_tiles(plan: KernelPlan) -> Iterator[dict[str, Any]]:
    """A row a tile: time of the whole self-search's products, both sides, with k candidates a row."""
    module = cuda._module()
    device = module.Device(plan.device)
    major, minor = device.capability
    x = clustered(plan.n, plan.d)
    timing = module.Timing(device, [x], *codebook.fit([as_rows(x)]), plan.k, plan.capacity, cores())
    distance = limit_for(timing, plan, plan.k)
    timing.filter(False, *steps(plan.n, "mma", True), True, distance, 0, 1)
    right = timing.passed()
    architecture = f"sm_{major}{minor}" + ("a" if major >= 9 else "")
    task_bytes = len(timing.filter_task(0, 1, True))
    image, symbols = nvrtc.compiled(source(task_bytes), [tile.name for tile in TILES], architecture)
    for tile in TILES:
        kernel = nvrtc.Kernel(image, symbols[tile.name], tile.shared)
        column_tiles = -(-plan.n // tile.columns)
        begin, end = 0, column_tiles // 2 + 1
        launch = (
            tile.blocks(plan.n, begin, end),
            tile.threads,
            timing.filter_task(begin, end, True),
            device.stream,
        )
        times = []
        for _ in range(WARM + plan.rounds):
            timing.start(distance)
            times.append(kernel.milliseconds(*launch))
        passed = timing.passed()
        took = float(np.median(times[WARM:]))
        pairs = plan.n * (plan.n - 1) // 2
        yield {
            "tile": f"{tile.rows} x {tile.columns}, {tile.stages} stages, runs of {tile.run}",
            "ms_median": took,
            "rate": 2 * pairs * chunks(plan.d) * CHUNK / took / 1e9,
            "registers": kernel.attribute(nvrtc.REGISTERS),
            "spilled_bytes": kernel.attribute(nvrtc.LOCAL_BYTES),
            "passed": "as built in" if passed == right else f"WRONG: {passed} pairs, not {right}",
        }
