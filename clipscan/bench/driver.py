"""What is run, on what, in which order: A B C A B C, one worker at a time, every one on the same rows."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import clipscan
from clipscan.bench.exact import Array, difference, exact_kth, recall
from clipscan.bench.rows import machine, rates, spread
from clipscan.bench.worker import Command, Lost, Row, Worker
from clipscan.errors import InputError

CASES = ("knn", "lof")  # the exact self-search table; the score end to end
CHECKED = 500  # rows whose neighbours are compared with float64
OUTLIERS = 0.01  # share of the rows that recall_outliers looks at
SETTLE = 0.3  # seconds between runs: OpenMP threads spin for up to 0.2 s after their work


def clustered(n: int, d: int, seed: int = 0) -> Array:
    """n unit rows [n, d] around n/100 centres; cosine to the 16th neighbour about 0.7."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 100), d)).astype(np.float32)
    x: Array = centres[rng.integers(0, len(centres), n)] + 0.6 * rng.standard_normal((n, d)).astype(
        np.float32
    )
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def tight(n: int, d: int, seed: int = 0) -> Array:
    """n unit rows in two tight clusters, 1e-4 wide: no code tells their rows apart, so half of all pairs are
    measured. The worst case that somebody might build."""
    rng = np.random.default_rng(seed)
    x: Array = rng.standard_normal((2, d)).astype(np.float32)[np.arange(n) % 2]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x += np.float32(1e-4 / np.sqrt(d)) * rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


DATA = {"clustered": clustered, "tight": tight}


@dataclass(frozen=True)
class KnnPlan:
    """n rows of width d; each case at each k, on `threads` threads, in `rounds` counted runs."""

    n: int
    d: int
    ks: tuple[int, ...]
    threads: int
    rounds: int
    cases: tuple[str, ...] = ("knn",)
    data: str = "clustered"

    def __post_init__(self) -> None:
        if self.data not in DATA:
            raise InputError(f"no data {self.data!r}; there are {', '.join(DATA)}")
        if unknown := set(self.cases) - set(CASES):
            raise InputError(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
        if min(self.d, self.threads, self.rounds) < 1:
            raise InputError("d, threads and rounds must be at least 1")
        if not 1 <= min(self.ks) <= max(self.ks) < self.n:
            raise InputError(f"k must lie between 1 and n - 1 = {self.n - 1}, got {self.ks}")


def __getattr__(name: str) -> Any:
    """The old name of KnnPlan, of this module and of clipscan.bench."""
    if name != "Plan":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("clipscan.bench.Plan is named KnnPlan now", DeprecationWarning, stacklevel=2)
    return KnnPlan


def parse_ks(values: Iterable[str]) -> tuple[int, ...]:
    """["16,64"] and ["16", "64"] are (16, 64)."""
    try:
        return tuple(int(k) for value in values for k in value.split(","))
    except ValueError as error:
        raise InputError(f"k takes whole numbers, separated by commas: {error}") from None


def drive(plan: KnnPlan, commands: dict[str, Command], say: Callable[[str], None]) -> Iterator[Row]:
    """Rows of results.csv, by case, k and peer, as they are measured.

    commands: peer -> how its worker starts. A peer that is not installed, or that dies, is left out from
    there on, and `say` is told.
    """
    facts = machine()
    x = DATA[plan.data](plan.n, plan.d)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        np.save(f"{folder}/rows.npy", x)
        workers = []
        for name, command in commands.items():
            worker = Worker(name, command, plan.threads)
            stack.callback(worker.stop)
            with _left_out(worker, say):
                asked = {"threads": plan.threads, "cases": plan.cases, "k": min(plan.ks)}
                worker.load(rows=f"{folder}/rows.npy", **asked)
                workers.append(worker)
        for case, k in itertools.product(plan.cases, plan.ks):
            able = [worker for worker in workers if case in worker.cases]
            say(f"{case} k={k}: {plan.rounds} rounds of {', '.join(worker.name for worker in able)}")
            runs = _interleave(able, case, k, plan.rounds, folder, say)
            results = {worker.name: np.load(f"{folder}/{worker.name}.npy") for worker in runs}
            worth = _recalls(x, k, results, plan.threads) if case == "knn" else _differences(results)
            for worker, done in runs.items():
                row = {
                    "case": case,
                    "data": plan.data,
                    "peer": worker.name,
                    "version": worker.version,
                    "n": plan.n,
                    "d": plan.d,
                }
                row |= {"k": k, "threads": plan.threads, "rounds": plan.rounds, **facts, **_summary(done)}
                yield row | rates(row) | worth[worker.name]


def _interleave(
    workers: Sequence[Worker], case: str, k: int, rounds: int, folder: str, say: Callable[[str], None]
) -> dict[Worker, list[Row]]:
    """All runs of the workers that lived through them; the last one leaves its result in folder/NAME.npy."""
    runs: dict[Worker, list[Row]] = {worker: [] for worker in workers}
    for turn, worker in itertools.product(range(rounds), workers):
        if case not in worker.cases:
            continue
        time.sleep(SETTLE)
        with _left_out(worker, say):
            keep = f"{folder}/{worker.name}.npy" if turn == rounds - 1 else None
            runs[worker].append(worker.run(case, k, keep))
    return {worker: done for worker, done in runs.items() if len(done) == rounds}


@contextlib.contextmanager
def _left_out(worker: Worker, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except Lost as reason:
        worker.cases = []
        say(f"left out from here on: {worker.name}, {reason}")


def _summary(runs: Sequence[Row]) -> Row:
    """Runs of one worker -> wall and CPU percentiles, the largest memory, the last run's counts."""
    memory = max(run["memory_mb"] for run in runs)
    return {**spread(runs, "wall"), **spread(runs, "cpu"), "memory_mb": memory, **runs[-1]["counts"]}


def _recalls(x: Array, k: int, tables: dict[str, Array], threads: int) -> dict[str, Row]:
    """Peer -> recall on random rows, and on those with the highest exact LOF, which the scores are about."""
    some = np.random.default_rng(1).choice(len(x), min(CHECKED, len(x)), replace=False)
    scores = clipscan.score(x, method="lof", reference="all", k=k, threads=threads).scores
    sparse = np.argsort(scores)[-max(1, int(OUTLIERS * len(x))) :]
    kth, sparse_kth = exact_kth(x, some, k), exact_kth(x, sparse, k)
    return {
        name: {"recall": recall(x, index, some, kth), "recall_outliers": recall(x, index, sparse, sparse_kth)}
        for name, index in tables.items()
    }


def _differences(scores: dict[str, Array]) -> dict[str, Row]:
    """Peer -> its largest difference from scikit-learn's scores, where that is among the peers."""
    judge = scores.get("sklearn")
    return {
        name: {"score_difference": None if judge is None or one is judge else difference(one, judge)}
        for name, one in scores.items()
    }
