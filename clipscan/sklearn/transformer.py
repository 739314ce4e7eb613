"""The exact neighbour graph as a step of a scikit-learn pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from clipscan.engine.checks import check_k
from clipscan.sklearn.neighbors import NeighborsEstimator, check_mode, graph_of


class ExactKNeighborsTransformer(  # type: ignore[misc]
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, NeighborsEstimator
):
    """sklearn.neighbors.KNeighborsTransformer over an exact search on all cores; parameters as there.

    Rows come out as CSR [n, m] over the m fitted rows, ascending by distance, zeros explicit. A fitted row
    is its own first neighbour, before its copies, so mode "distance" has n_neighbors + 1 entries a row and
    "connectivity" n_neighbors. That is what TSNE, DBSCAN and Isomap with metric="precomputed" take; give them
    at most n_neighbors of this step. HDBSCAN wants it symmetric, graph.maximum(graph.T). UMAP takes the table
    in it, precomputed_knn=(graph.indices.reshape(n, -1), graph.data.reshape(n, -1), None).
    metric, n_jobs and errors as clipscan.sklearn.LocalOutlierFactor.

    Attributes: n_samples_fit_, n_features_in_, effective_metric_.
    """

    def __init__(
        self,
        *,
        mode: str = "distance",
        n_neighbors: int = 5,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "minkowski",
        p: float = 2,
        metric_params: dict[str, Any] | None = None,
        n_jobs: int | None = None,
    ):
        super().__init__(
            n_neighbors,
            algorithm=algorithm,
            leaf_size=leaf_size,
            metric=metric,
            p=p,
            metric_params=metric_params,
            n_jobs=n_jobs,
        )
        self.mode = mode

    def fit(self, X: Any, y: Any = None) -> ExactKNeighborsTransformer:
        """Takes rows X [m, d] over; y is ignored. InputError, a ValueError, for parameters that cannot be
        served."""
        check_mode(self.mode)
        self._fit(X, least=1)
        self._n_features_out = self.n_samples_fit_
        return self

    def transform(self, X: Any) -> csr_matrix:
        """CSR [n, m] of the fitted rows nearest to each of X [n, d]."""
        check_is_fitted(self)
        table = self._table(X, self._entries)
        return graph_of(table.distance, table.index, self.n_samples_fit_, self.mode)

    def fit_transform(self, X: Any, y: Any = None) -> csr_matrix:
        """CSR [n, n] of the rows X [n, d] among themselves, each first among its own; quicker than fit and
        transform."""
        self.fit(X)
        n, others = self.n_samples_fit_, self._entries - 1
        check_k(self._entries, n, itself=False)
        index, distance = np.arange(n)[:, None], np.zeros((n, 1), self._fit_X.dtype)
        if others:
            table = self._table(None, others)
            index, distance = np.hstack([index, table.index]), np.hstack([distance, table.distance])
        return graph_of(distance, index, n, self.mode)

    @property
    def _entries(self) -> int:
        return int(self.n_neighbors) + (self.mode == "distance")
