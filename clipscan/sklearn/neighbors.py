"""What the estimators on neighbours share: scikit-learn's parameters, and the exact search behind them."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from clipscan.engine import Neighbors, cores
from clipscan.engine.arrays import Array
from clipscan.engine.checks import check_k
from clipscan.engine.metric import Metric, nearest, placed
from clipscan.errors import InputError

EUCLIDEAN = ("euclidean", "l2", "minkowski")
ALGORITHMS = ("auto", "brute", "kd_tree", "ball_tree")


class NeighborsEstimator(BaseEstimator):  # type: ignore[misc]
    """Fitted rows [m, d] that are searched exactly.

    float32 rows are compared in float32 (relative error of a distance about 1e-6), all others in float64, as
    scikit-learn's own trees do. Distances are not squared differences of norms: a large mean costs no digits.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "minkowski",
        p: float = 2,
        metric_params: dict[str, Any] | None = None,
        n_jobs: int | None = None,
    ):
        self.n_neighbors = n_neighbors
        self.algorithm = algorithm
        self.leaf_size = leaf_size
        self.metric = metric
        self.p = p
        self.metric_params = metric_params
        self.n_jobs = n_jobs

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[Array, Array] | Array:
        """(distance [n, k], index [n, k] int64) of the nearest fitted rows, by (distance, index); the index
        alone unless return_distance. Without X the fitted rows themselves, none its own neighbour.
        InputError, a ValueError, where there are not n_neighbors rows."""
        check_is_fitted(self)
        table = self._table(X, self.n_neighbors if n_neighbors is None else n_neighbors)
        return (table.distance, table.index) if return_distance else table.index

    def kneighbors_graph(
        self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity"
    ) -> csr_matrix:
        """CSR [n, m] of n_neighbors entries a row, in ascending distance: 1, or in mode "distance" the
        distance. Without X no row is its own neighbour. InputError as `kneighbors`, and for another mode."""
        check_is_fitted(self)
        check_mode(mode)
        table = self._table(X, self.n_neighbors if n_neighbors is None else n_neighbors)
        return graph_of(table.distance, table.index, len(self._fit_X), mode)

    def _fit(self, X: Any, least: int) -> Array:
        """Rows X [m, d], m >= least, checked and taken over, where metric and algorithm can be served."""
        self._check_parameters()
        rows: Array = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=least)
        self.effective_metric_: Metric = "cosine" if self.metric == "cosine" else "euclidean"
        self.effective_metric_params_: dict[str, Any] = {}
        self._fit_X = placed(rows, self.effective_metric_)
        self.n_samples_fit_ = len(rows)
        return rows

    def _check_parameters(self) -> None:
        check_neighbors(self.n_neighbors)
        check_metric(self.metric, self.p)
        if self.metric_params:
            raise InputError(f"metric_params={self.metric_params}: no metric here has parameters")
        if self.algorithm not in ALGORITHMS:
            raise InputError(f"algorithm={self.algorithm!r} is none of {', '.join(ALGORITHMS)}")

    def _table(self, X: Any, k: int) -> Neighbors:
        """The k nearest fitted rows of each of X [n, d], or of each other fitted row."""
        check_neighbors(k)
        check_k(k, len(self._fit_X), itself=X is None)
        queries = None
        if X is not None:
            rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
            queries = placed(rows, self.effective_metric_)
        return nearest(self._fit_X, queries, int(k), self.effective_metric_, threads_of(self.n_jobs))


def check_neighbors(n_neighbors: Any) -> None:
    """InputError unless an integer of at least 1."""
    if not isinstance(n_neighbors, Integral) or n_neighbors < 1:
        raise InputError(f"n_neighbors must be an integer of at least 1, got {n_neighbors!r}")


def check_metric(metric: Any, p: float = 2) -> None:
    """InputError unless the metric is Euclidean or cosine."""
    if metric not in (*EUCLIDEAN, "cosine") or (metric == "minkowski" and p != 2):
        asked = f"metric={metric!r}" + (f" with p={p}" if metric == "minkowski" else "")
        raise InputError(
            f"{asked}: there are 'euclidean', also called 'l2' and 'minkowski' with p=2, and 'cosine'; "
            "scikit-learn's own estimator takes others"
        )


def threads_of(n_jobs: int | None) -> int | None:
    """scikit-learn's n_jobs as a number of threads; None is every core here, as -1 is."""
    if n_jobs is None or n_jobs > 0:
        return n_jobs
    if n_jobs == 0:
        raise InputError("n_jobs=0: say how many threads, or -1 for every core")
    return max(1, cores() + 1 + n_jobs)


def check_mode(mode: str) -> None:
    """InputError unless mode is one of a graph."""
    if mode not in ("distance", "connectivity"):
        raise InputError(f"mode={mode!r} must be 'distance' or 'connectivity'")


def graph_of(distance: Array, index: Array, m: int, mode: str) -> csr_matrix:
    """CSR [n, m] of a table [n, k]; entries stand in the order of the table, zeros are kept."""
    data = np.ones(index.size) if mode == "connectivity" else distance.ravel()
    indptr = np.arange(0, index.size + 1, index.shape[1])
    return csr_matrix((data, index.ravel(), indptr), shape=(len(index), m))
