"""Numbers -> neighbour table: check at the door (checks.py), choose a back-end (backends.py), call it.

A back-end offers `within`, `between`, `density`, `mean_cosine` and `LIMITS` (protocol.py); reference.py is
the definition of all four.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from clipscan import _core
from clipscan.engine import backends
from clipscan.engine.arrays import Array, Rows, as_rows
from clipscan.engine.backends import choose
from clipscan.engine.checks import check_identity, check_k, check_rows
from clipscan.engine.libraries import like, numpy_of
from clipscan.engine.limits import Counts
from clipscan.engine.neighbors import Neighbors
from clipscan.engine.protocol import Backend, Span, Table
from clipscan.engine.threads import cores
from clipscan.errors import InputError

CPU_MEMORY = 1 << 30  # bytes to work in where nobody says; GPUs take a share of what is free on them


def knn(
    queries: Any,
    reference: Any = None,
    k: int = 16,
    *,
    query_ids: Any = None,
    reference_ids: Any = None,
    backend: str = "auto",
    devices: str = "auto",
    threads: int | None = None,
    max_memory: int | None = None,
) -> Neighbors:
    """The exact k nearest rows, Euclidean, ordered by (distance, index).

    queries [n, d] and reference [m, d]: float8, float16, bfloat16, float32 or float64; NumPy arrays, memory
    maps, non-contiguous views, torch, CuPy or JAX arrays. Distances are those of the rows rounded to
    float32. Without `reference` it is a self-search, and no row is its own neighbour (by row number,
    so a copy of it is one). `query_ids` [n] and `reference_ids` [m] (integers) exclude pairs of equal
    identity in a search between two sets.

    `backend` is auto, cuda, triton, cpu or reference; "auto" takes the first that can serve, and a GPU only
    after a small search on it, in a process of its own, gave the CPU's very table (kept for this GPU and
    driver in the user's cache folder). All give the same table. `devices` is auto (the
    GPU that the rows lie on, or all), cpu, or numbers of GPUs such as "0,1". `max_memory` is the bytes to
    work in beyond input and output, for each device: by default 1 GiB on the CPU, 0.4 of what is free on a
    GPU. Rows on a GPU are read there, and their table stays there.

    Returns Neighbors with arrays of the library that `queries` came from.
    Raises InputError for NaN or infinite rows (by number), k < 1, k >= m in a self-search, k > m
    otherwise, shapes that do not fit; BackendError where the named back-end cannot serve; DeviceLost where
    all devices of a named back-end fail ("auto" then says so and goes on with the CPU).
    """
    rows = as_rows(queries, "queries")
    others = None if reference is None else as_rows(reference, "reference")
    if (query_ids is None) != (reference_ids is None):
        raise InputError("query_ids and reference_ids exclude pairs together: give both or neither")
    if others is None and query_ids is not None:
        raise InputError("identities exclude pairs between two sets: pass the rows as reference= too")
    check_k(k, others.n if others else rows.n, itself=others is None)
    if others is not None and rows.d != others.d:
        raise InputError(f"queries have width {rows.d}, reference rows have width {others.d}")
    check_rows(rows, threads)
    if others is not None:
        check_rows(others, threads)
    query_id, reference_id = check_identity(query_ids, rows), check_identity(reference_ids, others)
    found = search(
        rows, others, k, query_id, reference_id, backend=backend, devices=devices, threads=threads,
        max_memory=max_memory, on_host=False,
    )  # fmt: skip
    return replace(found, reference_rows=(others or rows).n).map(like(queries))


class SearchOptions(TypedDict, total=False):
    """How a search is served, in the words of knn; `counts` is added to. `on_host`, the default: the table is
    NumPy's; else that of rows on a GPU may be there (objects with __dlpack__)."""

    backend: str
    devices: str
    threads: int | None
    max_memory: int | None
    counts: Counts | None
    on_host: bool


def search(
    rows: Rows,
    others: Rows | None,
    k: int,
    query_id: Array | None = None,
    reference_id: Array | None = None,
    **options: Unpack[SearchOptions],
) -> Neighbors:
    """knn on checked rows [n, d] and others [m, d]: the table [n, k]. Without `others` a search among the
    rows, none its own neighbour; identities as in knn. BackendError and DeviceLost as there.
    """
    if others is not None:
        return search_spans(rows, others, k, query_id, reference_id, [(0, others.n)], **options)[0]
    [table] = _tables(
        lambda backend, *given: [backend.within(rows, k, *given)],
        k,
        rows.d,
        near=backends.near(rows),
        **options,
    )
    return table


def search_spans(
    rows: Rows,
    others: Rows,
    k: int,
    query_id: Array | None,
    reference_id: Array | None,
    spans: Sequence[Span],
    **options: Unpack[SearchOptions],
) -> list[Neighbors]:
    """rows [n, d], others [m, d]: one table [n, k] for each span [begin, end) of the reference rows, indices
    counted from its begin; input is not checked.

    Spans that begin together share a pass: nested samples cost what the largest costs.
    """
    order = sorted(range(len(spans)), key=lambda s: spans[s])
    ascending = [spans[s] for s in order]
    found = _tables(
        lambda backend, *given: backend.between(rows, others, k, query_id, reference_id, ascending, *given),
        k, rows.d, near=backends.near(rows, others), **options,
    )  # fmt: skip
    tables = dict(zip(order, found, strict=True))
    return [tables[s] for s in range(len(spans))]


def _tables(
    compute: Callable[[Backend, int, int | None, Counts], list[Table]],
    k: int,
    d: int,
    *,
    near: str,
    backend: str = "auto",
    devices: str = "auto",
    threads: int | None = None,
    max_memory: int | None = None,
    counts: Counts | None = None,
    on_host: bool = True,
) -> list[Neighbors]:
    """What compute(back-end, threads, memory, counts) finds on the back-end that is chosen, or on the CPU
    where the devices of that one fail."""
    counts = Counts() if counts is None else counts

    def on(backend: str, devices: str) -> list[Neighbors]:
        name, chosen = choose(backend, k, d, devices, near)
        memory = CPU_MEMORY if max_memory is None and name not in backends.ON_GPU else max_memory
        found = compute(chosen, threads or cores(), memory, counts)
        return [Neighbors(distance, index, name) for distance, index in found]

    tables = backends.with_fallback(backend, lambda: on(backend, devices), lambda: on("cpu", "auto"))
    return [table.map(numpy_of) for table in tables] if on_host else tables


def density(
    table: Neighbors,
    reference: Mapping[str, Array] | None = None,
    *,
    backend: str = "auto",
    devices: str = "auto",
    threads: int | None = None,
) -> dict[str, Array]:
    """kdist, lid, lid_mom, lrd, lof, slof, dao, logdao of each row of a table [n, k], float64 [n]. Formulas
    and sources: docs/methods.md. The table is read where it lies.

    `reference` is what this function returned for the rows that the table points to; None for a
    self-search table.
    """

    def on(backend: str, devices: str) -> dict[str, Array]:
        name, chosen = choose(backend, table.k, 1, devices)
        at_hand = table if name in backends.ON_GPU else table.map(numpy_of)
        return chosen.density(at_hand.distance, at_hand.index, reference, threads or cores())

    return backends.with_fallback(backend, lambda: on(backend, devices), lambda: on("cpu", "auto"))


def hash_rows(rows: Rows, threads: int | None = None) -> Array:
    """[n] uint64, a hash of each row as float32, made where the rows lie; -0 counts as 0."""

    def on_host() -> Array:
        return _core.hash_rows(rows.sources(), rows.d, threads or cores())

    number = backends.near(rows)
    if number == "auto" or choose("auto", 1, rows.d, near=number)[0] != "cuda":
        return on_host()
    [engine] = backends.gpus("cuda", (f"cuda:{number}",)).engines
    return backends.with_fallback("auto", lambda: engine.hash_rows(rows), on_host)  # type: ignore[attr-defined]
