"""The exact neighbour table and LOF end to end: clipscan and its peers, interleaved, one process each.

    python bench/knn.py [--n 50000] [--d 512] [--k 16,64] [--rounds 3] [--threads 2]
                        [--case knn,lof] [--data clustered] [--peers faiss,sklearn] [--csv bench/results.csv]

Rows are clustered unit vectors: Gaussian ones make every search look alike. A peer that is not installed is
left out, aloud; `pip install '.[dev,bench]'` brings them all. Columns: clipscan/bench/rows.py.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from clipscan.bench import ITSELF, KnnPlan, Peer, drive, parse_ks, report, serve
from clipscan.engine import cores
from clipscan.errors import InputError

Array = np.ndarray[Any, Any]

BLOCK = 1024  # queries whose similarities to all rows torch holds at once


def without_self(index: Array) -> Array:
    """[n, k + 1] of a search that finds the rows too -> [n, k]; where copies hid the row the last goes."""
    own = index == np.arange(len(index))[:, None]
    own[~own.any(axis=1), -1] = True
    return index[~own].reshape(len(index), -1)


def faiss(threads: int) -> Peer:
    import faiss

    faiss.omp_set_num_threads(threads)

    def knn(x: Array, k: int) -> Array:
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        return without_self(index.search(x, k + 1)[1])

    return Peer(faiss.__version__, {"knn": knn})


def sklearn(threads: int) -> Peer:
    """Its thread count is OpenMP's, set in the environment; kneighbors() leaves a row itself out."""
    import sklearn
    from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

    def knn(x: Array, k: int) -> Array:
        return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()[1]

    def lof(x: Array, k: int) -> Array:
        return -LocalOutlierFactor(n_neighbors=k).fit(x).negative_outlier_factor_

    return Peer(sklearn.__version__, {"knn": knn, "lof": lof})


def estimator(threads: int) -> Peer:
    """clipscan by scikit-learn's interface: what the adapter adds to the search."""
    import clipscan
    from clipscan.sklearn import LocalOutlierFactor

    def lof(x: Array, k: int) -> Array:
        return -LocalOutlierFactor(n_neighbors=k, n_jobs=threads).fit(x).negative_outlier_factor_

    return Peer(clipscan.__version__, {"lof": lof})


def sklearnex(threads: int) -> Peer:
    from sklearnex.neighbors import NearestNeighbors

    def knn(x: Array, k: int) -> Array:
        return NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=threads).fit(x).kneighbors()[1]

    return Peer(version("scikit-learn-intelex"), {"knn": knn})


def torch(threads: int, dtype: str) -> Peer:
    """mm + topk on blocks of queries. On unit rows the inner product orders as the distance does."""
    import torch

    torch.set_num_threads(threads)

    def knn(x: Array, k: int) -> Array:
        rows = torch.from_numpy(x).to(getattr(torch, dtype))
        scores = torch.empty(BLOCK, len(rows), dtype=rows.dtype)
        tables = [
            torch.topk(torch.mm(block, rows.T, out=scores[: len(block)]), k + 1).indices
            for block in rows.split(BLOCK)
        ]
        return without_self(torch.cat(tables).numpy())

    return Peer(torch.__version__, {"knn": knn})


def pynndescent(threads: int) -> Peer:
    """Approximate, with its defaults; the seed is fixed. A row counts itself among its neighbours."""
    import pynndescent

    def knn(x: Array, k: int) -> Array:
        graph = pynndescent.NNDescent(x, n_neighbors=k + 1, n_jobs=threads, random_state=0)
        return without_self(graph.neighbor_graph[0])

    return Peer(version("pynndescent"), {"knn": knn})


def pyod(threads: int) -> Peer:
    from pyod.models.lof import LOF

    def lof(x: Array, k: int) -> Array:
        return LOF(n_neighbors=k).fit(x).decision_scores_

    return Peer(version("pyod"), {"lof": lof})


PEERS: dict[str, Callable[[int], Peer]] = {
    "estimator": estimator,
    "faiss": faiss,
    "sklearn": sklearn,
    "sklearnex": sklearnex,
    "torch-float32": functools.partial(torch, dtype="float32"),
    "torch-bfloat16": functools.partial(torch, dtype="bfloat16"),
    "pynndescent": pynndescent,
    "pyod": pyod,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("n", 50_000), ("d", 512), ("rounds", 3), ("threads", cores())):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("k", "16,64"), ("case", "knn,lof"), ("peers", ",".join(PEERS))):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--data", default="clustered", help="clustered, or tight: the worst case")
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    a = parser.parse_args()

    if a.worker:
        serve(PEERS[a.worker])
        return
    chosen = [name for name in a.peers.split(",") if name]
    if unknown := set(chosen) - set(PEERS):
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    commands = {name: [sys.executable, __file__, "--worker", name] for name in chosen}
    try:
        plan = KnnPlan(a.n, a.d, parse_ks([a.k]), a.threads, a.rounds, tuple(a.case.split(",")), a.data)
    except InputError as wrong:
        parser.error(str(wrong))
    say = functools.partial(print, file=sys.stderr, flush=True)
    print(report(drive(plan, {"clipscan": ITSELF, **commands}, say), a.csv))


if __name__ == "__main__":
    main()
