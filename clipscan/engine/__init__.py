"""Numbers -> neighbour table: check at the door, choose a back-end, call it.

A back-end is a module with `within`, `between`, `density`, `mean_cosine` and `LIMITS`; engine/reference.py
is the definition of all four.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from clipscan import _core
from clipscan.engine.arrays import Array, Rows, as_rows, like
from clipscan.engine.limits import Counts
from clipscan.engine.neighbors import Neighbors
from clipscan.engine.threads import cores
from clipscan.errors import BackendError, InputError

__all__ = [
    "Counts", "Neighbors", "Rows", "as_rows", "backend_module", "check_rows", "cores", "density", "knn",
    "like", "search", "search_spans",
]  # fmt: skip

BACKENDS = {"cpu": "clipscan.engine.cpu", "reference": "clipscan.engine.reference"}  # "auto" takes the first
DEFAULT_MEMORY = 1 << 30  # bytes of working memory beyond input and output


def knn(
    queries: Any,
    reference: Any = None,
    k: int = 16,
    *,
    query_ids: Any = None,
    reference_ids: Any = None,
    backend: str = "auto",
    threads: int | None = None,
    max_memory: int = DEFAULT_MEMORY,
) -> Neighbors:
    """The exact k nearest rows, Euclidean, ordered by (distance, index).

    queries [n, d] and reference [m, d]: float16, bfloat16, float32 or float64; NumPy arrays, memory
    maps, non-contiguous views, torch, CuPy or JAX arrays. Distances are those of the rows rounded to
    float32. Without `reference` it is a self-search, and no row is its own neighbour (by row number,
    so a copy of it is one). `query_ids` [n] and `reference_ids` [m] (integers) exclude pairs of equal
    identity in a search between two sets.

    Returns Neighbors with arrays of the library that `queries` came from.
    Raises InputError for NaN or infinite rows (by number), k < 1, k >= m in a self-search, k > m
    otherwise, shapes that do not fit; BackendError where the named back-end cannot serve.
    """
    rows = as_rows(queries, "queries")
    others = None if reference is None else as_rows(reference, "reference")
    if (query_ids is None) != (reference_ids is None):
        raise InputError("query_ids and reference_ids exclude pairs together: give both or neither")
    if others is None and query_ids is not None:
        raise InputError("identities exclude pairs between two sets: pass the rows as reference= too")
    _check_k(k, others.n if others else rows.n, itself=others is None)
    if others is not None and rows.d != others.d:
        raise InputError(f"queries have width {rows.d}, reference rows have width {others.d}")
    check_rows(rows, threads)
    if others is not None:
        check_rows(others, threads)
    query_id, reference_id = _identity(query_ids, rows), _identity(reference_ids, others)
    options: dict[str, Any] = {"backend": backend, "threads": threads, "max_memory": max_memory}
    return search(rows, others, k, query_id, reference_id, **options).map(like(queries))


def search(
    rows: Rows,
    others: Rows | None,
    k: int,
    query_id: Array | None = None,
    reference_id: Array | None = None,
    *,
    backend: str = "auto",
    threads: int | None = None,
    max_memory: int = DEFAULT_MEMORY,
    counts: Counts | None = None,
) -> Neighbors:
    """knn on checked input; without `others` a search among the rows, none its own neighbour."""
    if others is not None:
        spans = [(0, others.n)]
        return search_spans(
            rows, others, k, query_id, reference_id, spans, backend, threads, max_memory, counts
        )[0]
    name, module = backend_module(backend, k, rows.d)
    counts = Counts() if counts is None else counts
    distance, index = module.within(rows, k, threads or cores(), max_memory, counts)
    return Neighbors(distance, index, name)


def search_spans(
    rows: Rows,
    others: Rows,
    k: int,
    query_id: Array | None,
    reference_id: Array | None,
    spans: Sequence[tuple[int, int]],
    backend: str = "auto",
    threads: int | None = None,
    max_memory: int = DEFAULT_MEMORY,
    counts: Counts | None = None,
) -> list[Neighbors]:
    """One table for each span [begin, end) of the reference rows, indices counted from its begin.

    Spans that begin together share a pass: nested samples cost what the largest costs.
    """
    name, module = backend_module(backend, k, rows.d)
    counts = Counts() if counts is None else counts
    order = sorted(range(len(spans)), key=lambda s: spans[s])
    found = module.between(
        rows,
        others,
        k,
        query_id,
        reference_id,
        [spans[s] for s in order],
        threads or cores(),
        max_memory,
        counts,
    )
    tables = {s: Neighbors(distance, index, name) for s, (distance, index) in zip(order, found, strict=True)}
    return [tables[s] for s in range(len(spans))]


def density(
    table: Neighbors,
    reference: Mapping[str, Array] | None = None,
    *,
    backend: str = "auto",
    threads: int | None = None,
) -> dict[str, Array]:
    """kdist, lid, lid_mom, lrd, lof, slof, dao, logdao of each row, float64 [n]; see engine/reference.py.

    `reference` is what this function returned for the rows that the table points to; None for a
    self-search table.
    """
    _, module = backend_module(backend, table.k, 1)
    return module.density(table.distance, table.index, reference, threads or cores())  # type: ignore[no-any-return]


def backend_module(backend: str, k: int, d: int) -> tuple[str, ModuleType]:
    """(name, module) of the back-end to use; a named one that cannot serve raises with the reason."""
    if backend != "auto" and backend not in BACKENDS:
        raise BackendError(f"no back-end '{backend}' in this build; it has: {', '.join(BACKENDS)}")
    name = next(iter(BACKENDS)) if backend == "auto" else backend
    module = importlib.import_module(BACKENDS[name])
    if reason := module.LIMITS.refusal(k, d):
        raise BackendError(f"back-end '{name}' {reason}")
    return name, module


def check_rows(rows: Rows, threads: int | None = None) -> None:
    """Raises InputError naming the rows that hold NaN or inf, or whose norm leaves float32."""
    bad = np.flatnonzero(_core.bad_rows(rows.sources(), rows.d, threads or cores()))
    if len(bad):
        shown = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise InputError(
            f"{rows.name}: {len(bad)} of {rows.n} rows hold NaN or infinity, or a norm above 3e18, "
            f"which float32 distances cannot carry: rows {shown}; remove or repair them"
        )


def _identity(ids: Any, rows: Rows | None) -> Array | None:
    if ids is None or rows is None:
        return None
    array = np.asarray(ids)
    if array.shape != (rows.n,) or array.dtype.kind not in "iu":
        raise InputError(
            f"{rows.name}: identities must be {rows.n} integers, got {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array, np.int64)


def _check_k(k: int, m: int, itself: bool) -> None:
    most = m - 1 if itself else m
    if k < 1:
        raise InputError(f"k must be at least 1, got k={k}")
    if k > most:
        raise InputError(
            f"k={k} neighbours need {'more than' if itself else 'at least'} k reference rows, got {m}; "
            f"use k <= {most}" + ("" if most > 0 else " or more rows")
        )
