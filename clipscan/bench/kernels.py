"""Single kernels of the CUDA engine, timed by the device's own clock: `clipscan bench kernels`.

A rate means little by itself, so each stands beside what torch reaches on the same device in the same run:
its int8 and bf16 matrix products and its copy. Top/s count the products of the tiles that a kernel visits,
GB/s what it must move: inputs and outputs once. The rows are clustered and of unit length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from clipscan.bench.driver import clustered
from clipscan.bench.rows import commit, grid, spread
from clipscan.bench.worker import Row
from clipscan.engine import as_rows, codebook, cores, cuda
from clipscan.errors import BackendError, DeviceLost, InputError

ROWS = 128  # of a filter's tile
TILES = {"mma": 128, "wgmma": 256}  # filter -> columns of its tile: as in kernels/cuda/kernels.h
CHUNK = 64  # codes of a row are padded to a multiple
WARM = 3  # runs that are not counted
FARTHEST = 2.0  # distance of unit rows
HALVINGS = 16  # of that, in search of the limit that a wanted number of pairs pass
SQUARE = 8192  # of torch's matrices: large enough to keep a GPU busy
COPIED = 1 << 30  # bytes
TERA, GIGA = "Top/s", "GB/s"

SHOWN = {
    "kernel": "kernel",
    "ms_p20": "p20",
    "ms_median": "median",
    "ms_p80": "p80 ms",
    "rate": "rate",
    "unit": "",
    "share_int8": "of int8",
    "share_bf16": "of bf16",
    "share_copy": "of copy",
    "passed_per_row": "passed",
    "measured_per_row": "measured",
}


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
        """Candidates that a row can hold, as csrc/gpu/search.cpp gives it where memory is plenty."""
        return min(4096, max(256, 32 * self.k))


class Run(NamedTuple):
    """What a kernel did in each of its runs."""

    kernel: str
    milliseconds: Sequence[float]
    work: float  # operations or bytes
    unit: str
    passed: int | None = None
    measured: int | None = None


def measure_kernels(plan: KernelPlan, say: Callable[[str], None]) -> Iterator[Row]:
    """One row a kernel, as they are measured. Raises BackendError without the engine or the device,
    DeviceLost where a kernel fails."""
    [engine] = cuda.engines([f"cuda:{plan.device}"])
    module = cuda._module()
    device = module.Device(plan.device)
    facts = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "device": device.name,
        "n": plan.n,
        "d": plan.d,
        "k": plan.k,
        "rounds": plan.rounds,
    }
    peaks: dict[str, float] = {}
    for run in torch_runs(plan, say):
        row = facts | row_of(run, plan.n, {})
        peaks[run.kernel] = row["rate"]
        yield row
    say(f"{plan.n:,} rows of {plan.d} for {device.name}")
    x = clustered(plan.n, plan.d)
    book = codebook.fit([as_rows(x)])
    try:
        timing = module.Timing(device, [x], *book, plan.k, plan.capacity, cores())
        for run in kernel_runs(timing, plan, device.capability[0] == 9):
            say(f"{run.kernel}: {np.median(run.milliseconds):.3f} ms")
            yield facts | row_of(run, plan.n, peaks)
    except module.OutOfMemory as error:
        raise BackendError(f"{engine.name}: {error}; give a smaller --n") from error
    except module.Error as error:
        raise DeviceLost(f"{engine.name}: {error}") from error


def kernel_runs(timing: Any, plan: KernelPlan, hopper: bool) -> Iterator[Run]:
    """Every kernel by itself; wgmma last, which is the likeliest to fail where it was never tried."""
    n, d, k = plan.n, plan.d, plan.k
    codes = chunks(d) * CHUNK
    often = {"warm": WARM, "rounds": plan.rounds}
    yield Run("encode", timing.encode(**often), n * (4 * d + codes + 8), GIGA)
    yield Run("find_copies", timing.find_copies(**often), n * 4 * d, GIGA)
    yield Run("density", timing.density(**often), n * (12 * k + 8 * 8), GIGA)
    yield from filter_runs(timing, plan, "mma")

    # Candidates as the first round of a search leaves them: four times as many as neighbours.
    distance = limit_for(timing, plan, 4 * k)
    timing.filter(False, *steps(n, "mma", True), True, distance, 0, 1)
    passed = timing.passed()
    for mode in ("tighten", "settle", "finish"):
        took, measured = timing.refine(mode, **often)
        yield Run(f"refine {mode}", took, refined_bytes(plan, passed, measured), GIGA, passed, measured)

    if hopper:
        yield from filter_runs(timing, plan, "wgmma")


def filter_runs(timing: Any, plan: KernelPlan, name: str) -> Iterator[Run]:
    """All pairs of rows: for both at once or one side, with nothing to note down or the usual few."""
    limits = [(0.0, True), (0.0, False)]
    limits += [(limit_for(timing, plan, wanted), True) for wanted in (plan.k, 4 * plan.k)]
    for distance, both in limits:
        band = steps(plan.n, name, both)
        took = timing.filter(name == "wgmma", *band, both, distance, WARM, plan.rounds)
        work = 2 * products(plan.n, plan.d, name, *band, both)
        sides = "both sides" if both else "one side"
        yield Run(f"filter {name}, {sides}", took, work, TERA, timing.passed())


def limit_for(timing: Any, plan: KernelPlan, wanted: float) -> float:
    """A distance that about `wanted` pairs a row do not exceed, as far as their codes tell."""
    low, high = 0.0, FARTHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        timing.filter(False, *steps(plan.n, "mma", True), True, middle, 0, 1)
        low, high = (low, middle) if timing.passed() > wanted * plan.n else (middle, high)
    return low


# ---- what a kernel does


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


# ---- what the device does otherwise


def torch_runs(plan: KernelPlan, say: Callable[[str], None]) -> Iterator[Run]:
    """torch's matrix products and copy, which kernels are compared with; none without torch on the device."""
    try:
        import torch
    except ImportError:
        say("no torch here: the shares of its matrix products and copy are left empty")
        return
    if not torch.cuda.is_available() or plan.device >= torch.cuda.device_count():
        say("torch sees no such device: the shares of its matrix products and copy are left empty")
        return
    with torch.cuda.device(plan.device):
        # Random numbers: on zeros the units draw less power and run faster.
        numbers = torch.randint(-127, 128, (2, SQUARE, SQUARE), dtype=torch.int8, device="cuda")
        wide = torch.randn((2, SQUARE, SQUARE), device="cuda").bfloat16()
        here, there = torch.randint(0, 256, (2, COPIED), dtype=torch.uint8, device="cuda")
        calls: dict[str, tuple[Callable[[], Any], float, str]] = {
            "int8": (lambda: torch._int_mm(numbers[0], numbers[1].t()), 2 * SQUARE**3, TERA),
            "bf16": (lambda: torch.mm(wide[0], wide[1].t()), 2 * SQUARE**3, TERA),
            "copy": (lambda: there.copy_(here), 2 * COPIED, GIGA),
        }
        for name, (call, work, unit) in calls.items():
            try:
                took = [_milliseconds(torch, call) for _ in range(WARM + plan.rounds)][WARM:]
            except RuntimeError as error:
                say(f"torch's {name} is left out: {str(error).splitlines()[0]}")
                continue
            yield Run(name, took, work, unit)


def _milliseconds(torch: Any, call: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


# ---- a row, and all of them


def row_of(run: Run, n: int, peaks: dict[str, float]) -> Row:
    """peaks: torch's rates by name, Top/s and GB/s."""
    times = [{"ms": ms} for ms in run.milliseconds]
    row: Row = {"kernel": run.kernel, **spread(times, "ms"), "unit": run.unit}
    row["rate"] = run.work / (row["ms_median"] / 1e3) / (1e12 if run.unit == TERA else 1e9)
    for name in ("int8", "bf16") if run.unit == TERA else ("copy",):
        row[f"share_{name}"] = row["rate"] / peaks[name] if name in peaks else None
    if run.passed is not None:
        row["passed_per_row"] = run.passed / n
    if run.measured is not None:
        row["measured_per_row"] = run.measured / n
    return row


def table(rows: Sequence[Row]) -> str:
    """What was measured, in words, and the rows below one another."""
    first = rows[0]
    said = (
        f"{first['n']:,} x {first['d']} float32, clustered; k={first['k']}; {first['rounds']} runs each on "
        f"{first['device']}\nint8, bf16, copy: torch's matrix products of {SQUARE} x {SQUARE} and its copy "
        f"of {COPIED >> 20} MiB"
    )
    return f"{said}\n{grid(rows, SHOWN)}"
