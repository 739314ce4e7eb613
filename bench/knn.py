"""Exact self-search against scikit-learn's brute force, interleaved (A B A B), CPU-seconds and wall.

    python bench/knn.py [--n 20000] [--d 512] [--k 16] [--rounds 5] [--threads 2]

Rows are clustered unit vectors: Gaussian ones make every search look alike. The first round warms up and
is not counted. Recall is against float64 on 200 rows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import clipscan
from clipscan.engine import reference


def clustered(n: int, d: int, seed: int = 0) -> Any:
    """n unit rows [n, d] around n/100 centres; cosine to the 16th neighbour about 0.7."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 100), d)).astype(np.float32)
    x = centres[rng.integers(0, len(centres), n)] + 0.6 * rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def measure(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """(wall seconds, CPU-seconds, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("n", 20_000), ("d", 512), ("k", 16), ("rounds", 5), ("threads", os.cpu_count())):
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()

    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    x = clustered(a.n, a.d)
    brute = NearestNeighbors(n_neighbors=a.k + 1, algorithm="brute").fit(x)
    peers: dict[str, Callable[[], Any]] = {
        "clipscan": lambda: clipscan.knn(x, k=a.k, threads=a.threads).index,
        "scikit-learn brute": lambda: brute.kneighbors(x, return_distance=True)[1][:, 1:],
    }
    rounds: dict[str, list[tuple[float, float, Any]]] = {name: [] for name in peers}
    with threadpool_limits(a.threads):
        for _ in range(a.rounds + 1):
            for name, call in peers.items():
                rounds[name].append(measure(call))

    rows = np.random.default_rng(1).choice(a.n, min(200, a.n), replace=False)
    _, exact = reference.knn(x[rows], x, a.k, rows, np.arange(a.n))
    work = 2 * a.n**2 * a.d / 1e9
    print(f"n={a.n} d={a.d} k={a.k} threads={a.threads}, median of {a.rounds}; GFLOP counted as 2 n n d")
    for name, counted in rounds.items():
        wall, cpu = (statistics.median(one[i] for one in counted[1:]) for i in (0, 1))
        index = counted[-1][2]
        recall = np.mean([len(set(index[r]) & set(e)) / a.k for r, e in zip(rows, exact, strict=True)])
        rate = f"{work / cpu:.1f} GFLOP/CPU-s"
        print(f"{name:<20} wall {wall:7.2f} s  CPU {cpu:7.2f} s  {rate:>18}  recall {recall:.5f}")


if __name__ == "__main__":
    main()
