"""The engine on a GPU, beside others and at several sizes: the steps of bench/gpu.sh that need torch.

    python bench/gpu/steps.py STEP --json FILE       STEP: end-to-end, peers, sweep, scaling, tiles, profile

Each row is added to the file's section STEP as soon as it is measured. BACKENDS in the environment names
those to take, best first: cuda-wgmma, cuda-mma, triton. A case that fails is noted, and the next one begins
in a new process, since a failed kernel takes its process's device along. Rows are generated where they are
searched, on device 0.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from answers import clustered, recall
from peers import interleaved
from searches import AsFor, Row, engine_of, knn, searched, seconds
from tiles import measure_tiles

import clipscan
from clipscan.bench import records
from clipscan.bench.kernel_work import KernelPlan
from clipscan.bench.kernel_work import steps as band_of
from clipscan.bench.kernels import limit_for
from clipscan.engine import as_rows, codebook, cores, cuda
from clipscan.engine.devices import Devices
from clipscan.engine.tasks import simulate
from clipscan.scores import LOCAL

Case = Callable[[], Iterable[Row]]

BACKENDS = os.environ.get("BACKENDS", "cuda-wgmma cuda-mma triton").split()
MILLION = 1_000_000
PEERS_N = 150_000  # so that the slowest takes a second or two


# ---- the steps: cases by name


def end_to_end() -> dict[str, Case]:
    """A million rows: every back-end in float32, the best in float16 too."""

    def case(backend: str, dtype: torch.dtype) -> Iterator[Row]:
        yield searched(backend, clustered(MILLION, 512, dtype), 16, 3)

    cases = [(backend, torch.float32) for backend in BACKENDS]
    cases.insert(1, (BACKENDS[0], torch.float16))
    return {f"{backend} {dtype}": functools.partial(case, backend, dtype) for backend, dtype in cases}


def peers() -> dict[str, Case]:
    def case(d: int, k: int) -> Iterator[Row]:
        x = clustered(PEERS_N, d)
        calls = {name: functools.partial(knn, Devices([engine_of(name)])) for name in BACKENDS}
        yield from interleaved(calls, x, k, functools.partial(recall, x, k=k), seconds)

    sizes = itertools.product((512, 1024), (16, 32, 64))
    return {f"d={d} k={k}": functools.partial(case, d, k) for d, k in sizes}


def sweep() -> dict[str, Case]:
    """The best back-end at other sizes; the largest with all scores of the rows."""

    def case(n: int, d: int, k: int, rounds: int) -> Iterator[Row]:
        yield searched(BACKENDS[0], clustered(n, d), k, rounds)

    def scores(reference: str) -> Iterator[Row]:
        x = clustered(3 * MILLION, 512)
        name = BACKENDS[0].partition("-")[0]
        took, _ = seconds(lambda: clipscan.score(x, method=LOCAL, reference=reference, k=16, backend=name))
        shape = {"n": len(x), "d": 512, "k": 16}
        yield {"backend": name, **shape, "reference": reference, "seconds_median": took}

    sizes = [
        (100_000, 512, 16, 5),
        (300_000, 512, 16, 3),
        (MILLION, 256, 16, 2),
        (MILLION, 768, 16, 2),
        (MILLION, 1024, 16, 2),
        (MILLION, 512, 64, 2),
        (3 * MILLION, 512, 16, 0),
    ]
    cases: dict[str, Case] = {f"{n} x {d} k={k}": functools.partial(case, n, d, k, r) for n, d, k, r in sizes}
    return cases | {f"scores {r}": functools.partial(scores, r) for r in ("1024x8", "all")}


def scaling() -> dict[str, Case]:
    """A million rows cut as for 2, 4, 8 devices, every task measured on the one that is here, and the queue
    replayed. Loading is left out, and so is merging, which goes on beside."""

    def case(devices: int) -> Iterator[Row]:
        x, engine = clustered(MILLION, 512), engine_of(BACKENDS[0])
        alone, cut = Devices([engine]), AsFor(engine, devices)
        knn(alone, x, 16)
        whole, _ = seconds(lambda: knn(alone, x, 16))
        knn(cut, x, 16)
        tasks = [step.seconds for step in cut.schedule]
        share = simulate(tasks, devices)
        took = sum(tasks) / devices / share
        row = {"devices": devices, "tasks": len(tasks), "seconds_alone": whole, "seconds": took}
        yield row | {"speedup": whole / took, "share_at_work": share}

    return {f"{devices} devices": functools.partial(case, devices) for devices in (2, 4, 8)}


def tiles() -> dict[str, Case]:
    return {"tiles": lambda: measure_tiles(KernelPlan(rounds=7))}


def profile() -> dict[str, Case]:
    """Each filter once, for a profiler that starts when it is told to (ncu --profile-from-start off)."""

    def case() -> Iterator[Row]:
        plan, module = KernelPlan(n=100_000), cuda._module()
        x = clustered(plan.n, plan.d).cpu().numpy()
        book = codebook.fit([as_rows(x)])
        timing = module.Timing(module.Device(0), [x], *book, plan.k, plan.capacity, cores())
        distance = limit_for(timing, plan, plan.k)
        for backend in BACKENDS:
            kind, _, name = backend.partition("-")
            if kind != "cuda":
                continue
            band = band_of(plan.n, name, True)
            run = functools.partial(timing.filter, name == "wgmma", *band, True, distance)
            run(2, 1)
            torch.cuda.profiler.start()
            run(0, 1)
            torch.cuda.profiler.stop()
        return iter(())

    return {"filters": case}


STEPS: dict[str, Callable[[], dict[str, Case]]] = {
    "end-to-end": end_to_end,
    "peers": peers,
    "sweep": sweep,
    "scaling": scaling,
    "tiles": tiles,
    "profile": profile,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--begin", type=int, default=0, help=argparse.SUPPRESS)  # number of the first case
    a = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("bench/gpu/steps.py: torch sees no GPU here")
    if not BACKENDS:
        sys.exit("bench/gpu/steps.py: no back-end is right on this GPU, so there is nothing to measure")
    if "cuda-wgmma" not in BACKENDS:  # what clipscan.score makes for itself
        cuda.CudaEngine = functools.partial(cuda.CudaEngine, filter="mma")  # type: ignore[misc, assignment]

    cases = list(STEPS[a.step]().items())
    for number, (name, case) in enumerate(cases[a.begin :], a.begin):
        try:
            for row in case():
                records.add(a.json, a.step, row)
                print(json.dumps(row, default=float), flush=True)
        except Exception as error:
            traceback.print_exc()
            words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            records.add(a.json, a.step, {"case": name, "failed": words})
            again = [sys.executable, __file__, a.step, "--json", str(a.json), "--begin", str(number + 1)]
            sys.stdout.flush()
            os.execv(sys.executable, again)
    sys.exit(any("failed" in row for row in records.read(a.json).get(a.step, [])))


if __name__ == "__main__":
    main()
