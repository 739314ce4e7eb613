"""Single kernels of the CUDA engine, timed by the device's own clock: `clipscan bench kernels`.

A rate means little by itself, so each stands beside what torch reaches on the same device in the same run:
its int8 and bf16 matrix products and its copy. Top/s count the products of the tiles that a kernel visits,
GB/s what it must move: inputs and outputs once. The rows are clustered and of unit length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from clipscan.bench.driver import clustered
from clipscan.bench.kernel_work import (
    CHUNK,
    GIGA,
    TERA,
    WARM,
    KernelPlan,
    KernelRun,
    chunks,
    products,
    refined_bytes,
    steps,
)  # fmt: skip
from clipscan.bench.rows import commit, grid, spread
from clipscan.bench.torch_peaks import COPIED, SQUARE, torch_runs
from clipscan.bench.worker import Row
from clipscan.engine import as_rows, codebook, cores, cuda
from clipscan.errors import BackendError, DeviceLost

FARTHEST = 2.0  # distance of unit rows
HALVINGS = 16  # of that, in search of the limit that a wanted number of pairs pass

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


def kernel_runs(timing: Any, plan: KernelPlan, hopper: bool) -> Iterator[KernelRun]:
    """Every kernel by itself; wgmma last, which is the likeliest to fail where it was never tried."""
    n, d, k = plan.n, plan.d, plan.k
    codes = chunks(d) * CHUNK
    often = {"warm": WARM, "rounds": plan.rounds}
    yield KernelRun("encode", timing.encode(**often), n * (4 * d + codes + 8), GIGA)
    yield KernelRun("find_copies", timing.find_copies(**often), n * 4 * d, GIGA)
    yield KernelRun("density", timing.density(**often), n * (12 * k + 8 * 8), GIGA)
    yield from filter_runs(timing, plan, "mma")

    # Candidates as the first round of a search leaves them: four times as many as neighbours.
    distance = limit_for(timing, plan, 4 * k)
    timing.filter(False, *steps(n, "mma", True), True, distance, 0, 1)
    passed = timing.passed()
    for mode in ("tighten", "settle", "finish"):
        took, measured = timing.refine(mode, **often)
        yield KernelRun(f"refine {mode}", took, refined_bytes(plan, passed, measured), GIGA, passed, measured)

    if hopper:
        yield from filter_runs(timing, plan, "wgmma")


def filter_runs(timing: Any, plan: KernelPlan, name: str) -> Iterator[KernelRun]:
    """All pairs of rows: for both at once or one side, with nothing to note down or the usual few."""
    limits = [(0.0, True), (0.0, False)]
    limits += [(limit_for(timing, plan, wanted), True) for wanted in (plan.k, 4 * plan.k)]
    for distance, both in limits:
        band = steps(plan.n, name, both)
        took = timing.filter(name == "wgmma", *band, both, distance, WARM, plan.rounds)
        work = 2 * products(plan.n, plan.d, name, *band, both)
        sides = "both sides" if both else "one side"
        yield KernelRun(f"filter {name}, {sides}", took, work, TERA, timing.passed())


def limit_for(timing: Any, plan: KernelPlan, wanted: float) -> float:
    """A distance that about `wanted` pairs a row do not exceed, as far as their codes tell."""
    low, high = 0.0, FARTHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        timing.filter(False, *steps(plan.n, "mma", True), True, middle, 0, 1)
        low, high = (low, middle) if timing.passed() > wanted * plan.n else (middle, high)
    return low


# ---- a row, and all of them


def row_of(run: KernelRun, n: int, peaks: dict[str, float]) -> Row:
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
