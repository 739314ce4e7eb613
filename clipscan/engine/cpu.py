"""The C++ back-end: any CPU, the widest vectors found when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipscan import _core
from clipscan.engine import codebook
from clipscan.engine.arrays import Rows
from clipscan.engine.limits import FEW_ROWS, Counts, Limits
from clipscan.engine.neighbors import Array
from clipscan.errors import InputError

LIMITS = Limits(max_k=1 << 16, max_d=1 << 14)
# As in csrc/schedule.h, where the budget is spent: what a row needs with the fewest candidates, and all else.
ROW_MEMORY, FIXED_MEMORY = 164, 32 << 20  # bytes


def within(
    rows: Rows, k: int, threads: int, memory: int, counts: Counts, instruction_set: str = ""
) -> tuple[Array, Array]:
    """Rows [n, d] among themselves, none its own neighbour -> distance [n, k] float32, index [n, k] int64."""
    if memory < (least := ROW_MEMORY * rows.n + FIXED_MEMORY) and rows.n > FEW_ROWS:
        raise InputError(
            f"max_memory={memory}: a search among {rows.n} rows works in at least {least} bytes "
            f"beside its codes ({rows.n * rows.d} bytes); give it that much"
        )
    distance, index, passed, measured = _core.knn_within(
        rows.sources(), k, *codebook.fit([rows]), threads, memory, instruction_set
    )
    _count(counts, passed, measured)
    return distance, index


def between(
    queries: Rows,
    reference: Rows,
    k: int,
    query_id: Array | None,
    reference_id: Array | None,
    spans: Sequence[tuple[int, int]],
    threads: int,
    memory: int,
    counts: Counts,
    instruction_set: str = "",
) -> list[tuple[Array, Array]]:
    """Queries [n, d] against each span of the reference rows [m, d] -> a table as above for each."""
    tables, passed, measured = _core.knn_between(
        queries.sources(),
        reference.sources(),
        k,
        query_id,
        reference_id,
        spans,
        *codebook.fit([queries, reference]),
        threads,
        memory,
        instruction_set,
    )
    _count(counts, passed, measured)
    return tables  # type: ignore[no-any-return]


def density(
    distance: Array, index: Array, reference: Mapping[str, Array] | None = None, threads: int = 1
) -> dict[str, Array]:
    """As engine/reference.py:density, in one pass over the table."""
    if reference is None:
        return _core.density(distance, index, threads=threads)
    return _core.density(distance, index, reference["kdist"], reference["lid"], reference["lrd"], threads)


def mean_cosine(a: Array, b: Array, index: Array, threads: int = 1) -> Array:
    """As engine/reference.py:mean_cosine."""
    return _core.mean_cosine(a, b, index, threads)


def _count(counts: Counts, passed: int, measured: int) -> None:
    counts.passed += passed
    counts.measured += measured
