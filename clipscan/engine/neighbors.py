"""The narrow waist: a table of neighbours. Every back-end produces it, every score consumes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipscan.errors import InputError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Neighbors:
    """The k nearest rows of a reference, for each of n query rows.

    distance [n, k] float32, Euclidean, ascending; index [n, k] int64, rows of the reference.
    Ties stand in ascending index; "nobody" is (+inf, -1) and loses to every real neighbour.
    `scale` names the reference ("all", "1024x8", ...), `backend` what computed it, `reference_rows` is m, the
    rows of the reference, where that is told. InputError unless both arrays have one shape [n, k].
    """

    distance: Array
    index: Array
    backend: str = ""
    scale: str = "all"
    reference_rows: int | None = None

    def __post_init__(self) -> None:
        if self.distance.ndim != 2 or self.distance.shape != self.index.shape:
            raise InputError(
                f"a neighbour table needs distance and index of one shape [n, k], "
                f"got {self.distance.shape} and {self.index.shape}"
            )

    @property
    def n(self) -> int:
        """Number of query rows."""
        return int(self.distance.shape[0])

    @property
    def k(self) -> int:
        """Neighbours of each row."""
        return int(self.distance.shape[1])

    @staticmethod
    def merge(a: Neighbors, b: Neighbors) -> Neighbors:
        """Tables [n, k] of two references whose row numbers do not clash -> the table [n, k] of their union.

        Associative and idempotent; a neighbour that both tables list counts once. InputError for tables of
        different shapes.
        """
        if a.distance.shape != b.distance.shape:
            raise InputError(f"tables of shape {a.distance.shape} and {b.distance.shape} cannot be merged")
        distance = np.concatenate([a.distance, b.distance], axis=1)
        index = np.concatenate([a.index, b.index], axis=1)
        order = np.lexsort((index, distance), axis=1)
        distance = np.take_along_axis(distance, order, axis=1)
        index = np.take_along_axis(index, order, axis=1)

        # The same neighbour has the same distance in both tables, so copies stand side by side.
        again = np.zeros(index.shape, bool)
        again[:, 1:] = index[:, 1:] == index[:, :-1]
        distance[again], index[again] = np.inf, -1
        kept = np.argsort(again, axis=1, kind="stable")[:, : a.k]
        backend = a.backend if a.backend == b.backend else f"{a.backend}+{b.backend}"
        return Neighbors(
            np.ascontiguousarray(np.take_along_axis(distance, kept, axis=1)),
            np.ascontiguousarray(np.take_along_axis(index, kept, axis=1)),
            backend,
            a.scale,
        )

    @staticmethod
    def concatenate(tables: Sequence[Neighbors]) -> Neighbors:
        """Tables [n_i, k] of one reference -> that of all query rows, in order, [sum of n_i, k];
        `backend`, `scale` and `reference_rows` are the first table's."""
        return Neighbors(
            np.concatenate([table.distance for table in tables]),
            np.concatenate([table.index for table in tables]),
            tables[0].backend,
            tables[0].scale,
            tables[0].reference_rows,
        )

    def map(self, function: Callable[[Array], Any]) -> Neighbors:
        """The table with its two arrays [n, k] passed through `function` (another library's arrays, say)."""
        return replace(self, distance=function(self.distance), index=function(self.index))

    def to_csr(self, columns: int | None = None, *, arrays: bool = False) -> Any:
        """The sparse distance matrix [n, m] as scipy.sparse.csr_matrix; entries of a row ascend, zeros are
        kept, "nobody" is left out. A row is not its own neighbour; `to_umap` and
        clipscan.sklearn.ExactKNeighborsTransformer count it as one.

        With arrays=True, and where SciPy is not installed, the three arrays that csr_matrix takes: (data [e],
        indices [e], indptr [n + 1]) of e entries. columns: m, for a table that does not tell it; InputError
        where it is needed.
        """
        distance, index = np.asarray(self.distance), np.asarray(self.index)
        there = index >= 0
        indptr = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
        parts = distance[there], index[there], indptr
        if arrays:
            return parts
        try:
            from scipy.sparse import csr_matrix
        except ImportError:
            return parts
        m = self.reference_rows if columns is None else columns
        if m is None:
            raise InputError("this table does not tell how many rows its reference has: to_csr(columns=m)")
        return csr_matrix(parts, shape=(self.n, m))

    def to_umap(self) -> tuple[Array, Array, None]:
        """(indices, distances, None) for umap.UMAP(n_neighbors=k + 1, precomputed_knn=...).

        [n, k + 1] each: UMAP counts a row as its own first neighbour. Say n_neighbors=k + 1: below 4,096 rows
        it takes all columns that there are, whatever is said; above it cuts them to n_neighbors.
        For self-search tables only. Source: umap-learn 0.5.12, `umap_.nearest_neighbors` and `UMAP.fit`.
        """
        own = np.arange(self.n, dtype=np.int64)[:, None]
        zero = np.zeros((self.n, 1), np.float32)
        index, distance = np.asarray(self.index), np.asarray(self.distance)
        return np.hstack([own, index]), np.hstack([zero, distance]), None
