"""clipscan as PyOD detectors: exact density scores, and consensus. Needs pyod 2 or newer:
pip install 'clipscan[pyod]'.

PyOD's conventions: higher is more abnormal, `contamination` sets threshold_ and labels_ (1 for outliers), and
decision_function scores new rows by the fitted ones. The four density detectors share their parameters:
n_neighbors, of m fitted rows at most m - 1; metric, 'euclidean' (also 'l2', 'minkowski') or 'cosine'; n_jobs,
threads, None and -1 for all cores; contamination, in (0, 0.5], or a PyThresh object. They have
decision_scores_ [m] float64, threshold_, labels_ [m] int and n_neighbors_, and raise InputError, a
ValueError, for what cannot be served.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pyod.models.base import BaseDetector
from sklearn.utils.validation import check_array, check_is_fitted

from clipscan.engine.arrays import Array
from clipscan.engine.metric import Metric
from clipscan.errors import InputError
from clipscan.scores import score
from clipscan.scores.fitted_density import FittedDensity
from clipscan.sklearn.neighbors import check_metric, check_neighbors, threads_of

__all__ = ["DAO", "LOF", "SLOF", "Consensus", "KDist"]


class _Density(BaseDetector):  # type: ignore[misc]
    """A column of FittedDensity as a detector."""

    _column: ClassVar[str]

    def __init__(
        self,
        n_neighbors: int = 20,
        metric: str = "euclidean",
        contamination: Any = 0.1,
        n_jobs: int | None = None,
    ):
        super().__init__(contamination=contamination)
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> _Density:
        """Measures rows X [m, d] among themselves, m >= 2; y is ignored but for its number of classes.
        InputError for a metric or a number of neighbours that cannot be served."""
        check_neighbors(self.n_neighbors)
        check_metric(self.metric)
        rows = _rows(X)
        self._set_n_classes(y)
        self.n_neighbors_ = min(int(self.n_neighbors), len(rows) - 1)
        metric: Metric = "cosine" if self.metric == "cosine" else "euclidean"
        self.density_ = FittedDensity(rows, self.n_neighbors_, metric, threads_of(self.n_jobs))
        self.decision_scores_ = self._scores(self.density_.columns)
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> Array:
        """[n] float64 of new rows X [n, d]; a fitted row among them has itself as a neighbour."""
        check_is_fitted(self, ["decision_scores_", "threshold_", "labels_"])
        return self._scores(self.density_.score(_rows(X, least=1)))

    def _scores(self, columns: dict[str, Array]) -> Array:
        return columns[self._column]


class LOF(_Density):
    """Local outlier factor (Breunig et al. 2000) of rows [m, d], exactly; 1 is ordinary. Values as PyOD's LOF
    but for copies (docs/library.md)."""

    _column = "lof"


class SLOF(_Density):
    """Simplified LOF (Schubert et al. 2014) of rows [m, d]: the distance to the k-th neighbour over those of
    the neighbours, averaged; 1 is ordinary."""

    _column = "slof"


class DAO(_Density):
    """Dimensionality-aware outlier factor (Anderberg et al. 2024) of rows [m, d], its natural logarithm: 0 is
    ordinary. DAO is a power, which leaves a float64's mean and variance; the order is the same."""

    def _scores(self, columns: dict[str, Array]) -> Array:
        return np.log(np.maximum(columns["dao"], np.finfo(np.float64).tiny))


class KDist(_Density):
    """Distance to the k-th nearest neighbour (Ramaswamy et al. 2000) of rows [m, d]. Values as PyOD's
    KNN(method="largest")."""

    _column = "kdist"


class Consensus(BaseDetector):  # type: ignore[misc]
    """clipscan's consensus of pictures' vectors [m, d]; with paired=True of pictures and captions side by
    side [m, 2 d]. From 40 on a row is convicted (docs/methods.md); PyOD's labels_ follow contamination
    instead, so decision_scores_ >= 40 says what a scan would drop.

    It judges a set: decision_function puts new rows beside the fitted ones and judges all again, at the cost
    of a fit; a row that was fitted keeps its score. In EmbeddingOD say standardize=False: poison shows in the
    norm. n_neighbors and n_jobs as for the others.

    Attributes: decision_scores_ [m] float64, threshold_, labels_ [m] int, population_ [m] int64, the
    convicted population of each row, -1 for none. InputError, a ValueError, for what does not fit.
    """

    def __init__(
        self,
        n_neighbors: int = 16,
        paired: bool = False,
        contamination: Any = 0.1,
        random_state: int = 0,
        n_jobs: int | None = None,
    ):
        super().__init__(contamination=contamination)
        self.n_neighbors = n_neighbors
        self.paired = paired
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> Consensus:
        """Judges rows X [m, d], or [m, 2 d] if paired; y is ignored but for its number of classes. InputError
        for an odd width of pairs."""
        check_neighbors(self.n_neighbors)
        rows = _rows(X)
        self._set_n_classes(y)
        self.decision_scores_, self.population_ = self._judged(rows)
        self.fitted_ = rows
        self._process_decision_scores()
        return self

    def decision_function(self, X: Any) -> Array:
        """[n] float64 of rows X [n, d], or [n, 2 d] if paired, judged together with the fitted ones.
        InputError for another width."""
        check_is_fitted(self, ["decision_scores_", "threshold_", "labels_"])
        rows = _rows(X, least=1).astype(self.fitted_.dtype)
        if rows.shape[1] != self.fitted_.shape[1]:
            raise InputError(f"fitted rows have width {self.fitted_.shape[1]}, new ones {rows.shape[1]}")
        known = {row.tobytes(): value for row, value in zip(self.fitted_, self.decision_scores_, strict=True)}
        scores = np.array([known.get(row.tobytes(), np.nan) for row in rows])
        if (new := np.isnan(scores)).any():
            together = self._judged(np.concatenate([self.fitted_, rows[new]]))[0]
            scores[new] = together[len(self.fitted_) :]
        return scores

    def _judged(self, rows: Array) -> tuple[Array, Array | None]:
        text = None
        if self.paired:
            if rows.shape[1] % 2:
                raise InputError(f"paired=True takes pictures and captions of one width, got {rows.shape[1]}")
            rows, text = np.hsplit(rows, 2)
        found = score(
            rows,
            text=text,
            method="consensus",
            k=min(int(self.n_neighbors), len(rows) - 1),
            seed=self.random_state,
            threads=threads_of(self.n_jobs),
        )
        return found.columns["consensus"], found.population


def _rows(X: Any, least: int = 2) -> Array:
    """Finite rows [m, d], m >= least, float32 or float64."""
    return check_array(X, dtype=[np.float64, np.float32], ensure_min_samples=least)  # type: ignore[no-any-return]
