"""One search of a back-end on a GPU: its time, memory and recall."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from answers import recall

from clipscan.bench.rows import spread
from clipscan.engine import Counts, as_rows, cores, cuda, like, triton
from clipscan.engine.devices import Devices

Row = dict[str, Any]


def engine_of(backend: str) -> Any:
    if backend == "triton":
        return triton.engines(["cuda:0"])[0]
    return cuda.CudaEngine(0, filter=backend.removeprefix("cuda-"))


def knn(devices: Devices, x: torch.Tensor, k: int, counts: Counts | None = None) -> torch.Tensor:
    """index [n, k] of the exact table."""
    found = devices.within(as_rows(x), k, cores(), None, counts or Counts())
    index: torch.Tensor = like(x)(found[1])
    return index


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    torch.cuda.synchronize()
    begin = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return time.perf_counter() - begin, result


class Peak(threading.Thread):
    """Bytes of the device that are taken during a `with` block beyond those before, looked at every 5 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    def __enter__(self) -> Peak:
        torch.cuda.empty_cache()
        self.before = self.least = torch.cuda.mem_get_info(0)[0]
        self.start()
        return self

    def run(self) -> None:
        while not self.over.wait(0.005):
            self.least = min(self.least, torch.cuda.mem_get_info(0)[0])

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    @property
    def beyond(self) -> int:
        return self.before - self.least


class AsFor(Devices):
    """One engine whose searches are cut as they are for `count` of them."""

    def __init__(self, engine: Any, count: int) -> None:
        super().__init__([engine])
        self.count = count

    def _crew(self, n: int) -> int:
        return self.count


def searched(backend: str, x: torch.Tensor, k: int, rounds: int) -> Row:
    """A warm-up, during which memory is looked at, and `rounds` counted runs; 0: the warm-up counts."""
    devices, counts = Devices([engine_of(backend)]), Counts()
    with Peak() as peak:
        first, index = seconds(lambda: knn(devices, x, k, counts))
    runs = [seconds(lambda: knn(devices, x, k))[0] for _ in range(rounds)] or [first]
    n, d = x.shape
    shape = {"n": n, "d": d, "k": k, "rounds": len(runs)}
    return {
        "backend": backend,
        "dtype": str(x.dtype).removeprefix("torch."),
        **shape,
        **spread([{"seconds": run} for run in runs], "seconds"),
        "device_seconds": sum(step.seconds for step in devices.schedule),  # of the last; loading is apart
        "pflops": 2 * n * n * d / float(np.median(runs)) / 1e15,
        "passed_per_row": counts.passed / n,
        "measured_per_row": counts.measured / n,
        "recall": recall(x, index, k),
        "memory_gb": peak.beyond / 1e9,
    }
