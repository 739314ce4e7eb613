"""Others that find exact neighbours on a GPU, where they are installed: x [n, d] -> index [n, k].

All get the same rows. Those that find a row itself are asked for one neighbour more, and it is taken out.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from clipscan.bench.rows import spread

Row = dict[str, Any]
Search = Callable[[torch.Tensor, int], torch.Tensor]

BLOCK = 4096  # queries whose similarities to all rows torch holds at once
ROUNDS = 3


def without_self(index: torch.Tensor) -> torch.Tensor:
    """[n, k + 1] of a search that finds the rows too -> [n, k]; where copies hid the row the last goes."""
    own = index == torch.arange(len(index), device=index.device)[:, None]
    own[~own.any(dim=1), -1] = True
    return index[~own].reshape(len(index), -1)


def torch_mm(dtype: torch.dtype, precision: str) -> Search:
    """mm + topk on blocks of queries. On unit rows the inner product orders as the distance does."""

    def knn(x: torch.Tensor, k: int) -> torch.Tensor:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        rows = x.to(dtype)
        index = torch.cat([(block @ rows.T).topk(k + 1).indices for block in rows.split(BLOCK)])
        torch.set_float32_matmul_precision(before)
        return without_self(index)

    return knn


def faiss() -> Search:
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        raise ImportError("this faiss is built for CPUs")
    import faiss.contrib.torch_utils

    resources = faiss.StandardGpuResources()
    return lambda x, k: without_self(faiss.knn_gpu(resources, x, x, k + 1)[1])


def cuvs() -> Search:
    from cuvs.neighbors import brute_force

    def knn(x: torch.Tensor, k: int) -> torch.Tensor:
        found = brute_force.search(brute_force.build(x, metric="sqeuclidean"), x, k + 1)[1]
        return without_self(torch.as_tensor(found, device="cuda").long())

    return knn


def cuml() -> Search:
    from cuml.neighbors import NearestNeighbors

    def knn(x: torch.Tensor, k: int) -> torch.Tensor:
        search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute", output_type="cupy").fit(x)
        found = search.kneighbors(x, return_distance=False)
        return without_self(torch.as_tensor(found, device="cuda").long())

    return knn


def flashlib() -> Search:
    from flashlib import flash_knn

    return lambda x, k: without_self(flash_knn(x, x, k + 1, return_distances=False).long())


PEERS: dict[str, Callable[[], Search]] = {
    "torch float32": functools.partial(torch_mm, torch.float32, "highest"),
    "torch tf32": functools.partial(torch_mm, torch.float32, "high"),
    "torch bfloat16": functools.partial(torch_mm, torch.bfloat16, "highest"),
    "faiss": faiss,
    "cuvs": cuvs,
    "cuml": cuml,
    "flashlib": flashlib,
}


def interleaved(
    ours: dict[str, Search],
    x: torch.Tensor,
    k: int,
    recall: Callable[[torch.Tensor], float],
    seconds: Callable[[Callable[[], Any]], tuple[float, Any]],
) -> Iterator[Row]:
    """A row for each peer, A B A B after a warm-up each. One that is not there, or fails, is left out."""
    n, d = x.shape
    shape = {"n": n, "d": d, "k": k}
    calls, worth = dict(ours), {}
    for name, load in PEERS.items():
        with contextlib.suppress(ImportError):
            calls[name] = load()
            continue
        yield {"peer": name, **shape, "left_out": "not installed"}
    for name in list(calls):
        try:
            worth[name] = recall(seconds(functools.partial(calls[name], x, k))[1])
        except Exception as error:
            if name in ours:
                raise
            del calls[name]
            torch.cuda.synchronize()  # raises where the device went with it
            yield {"peer": name, **shape, "left_out": f"{type(error).__name__}: {str(error)[:200]}"}
    runs: dict[str, list[Row]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            runs[name].append({"seconds": seconds(functools.partial(call, x, k))[0]})
    for name, done in runs.items():
        times = spread(done, "seconds")
        tflops = 2 * n * n * d / times["seconds_median"] / 1e12
        yield {"peer": name, **shape, "rounds": ROUNDS, **times, "tflops": tflops, "recall": worth[name]}
