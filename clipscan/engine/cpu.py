"""The C++ back-end: any CPU, the widest vectors found when it runs."""

from __future__ import annotations

from collections.abc import Mapping

from clipscan import _core
from clipscan.engine.limits import Limits
from clipscan.engine.neighbors import Array

LIMITS = Limits(max_k=1 << 16, max_d=1 << 16)


def knn(
    queries: Array,
    reference: Array,
    k: int,
    query_id: Array | None,
    reference_id: Array | None,
    threads: int = 1,
) -> tuple[Array, Array]:
    """queries [n, d], reference [m, d], float32 -> distance [n, k] float32, index [n, k] int64."""
    return _core.knn(queries, reference, k, query_id, reference_id, threads)


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
