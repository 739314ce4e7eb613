"""clipscan as a peer of its own benchmark: `python -m clipscan.bench` is the worker process."""

from __future__ import annotations

import clipscan
from clipscan.bench.worker import Array, Peer, Row, serve
from clipscan.engine import Counts, as_rows, search


def load(threads: int) -> Peer:
    """The library as its users call it."""

    def knn(x: Array, k: int) -> Array:
        index: Array = clipscan.knn(x, k=k, threads=threads).index
        return index

    def lof(x: Array, k: int) -> Array:
        scores: Array = clipscan.score(x, method="lof", reference="all", k=k, threads=threads).scores
        return scores

    def count(x: Array, k: int) -> Row:
        counts = Counts()
        search(as_rows(x), None, k, threads=threads, counts=counts)
        return {"measured_per_row": counts.measured / len(x), "passed_per_row": counts.passed / len(x)}

    return Peer(clipscan.__version__, {"knn": knn, "lof": lof}, count)


if __name__ == "__main__":
    serve(load)
