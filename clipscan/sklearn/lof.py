"""Local outlier factors with scikit-learn's interface and clipscan's exact search."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.scores.fitted_density import FittedDensity
from clipscan.sklearn.neighbors import NeighborsEstimator, threads_of

AUTO_OFFSET = -1.5  # scikit-learn's, for contamination="auto"


def _for(novelty: bool, otherwise: str) -> Any:
    """A check of available_if: the method exists where the estimator's `novelty` is this one."""

    def check(estimator: LocalOutlierFactor) -> bool:
        if estimator.novelty != novelty:
            raise AttributeError(f"not available with novelty={estimator.novelty}: {otherwise}")
        return True

    return check


OF_FITTED = _for(False, "novelty=False labels the fitted rows, predict labels new ones")
OF_NEW = _for(True, "novelty=True scores new rows; the fitted ones have negative_outlier_factor_")


class LocalOutlierFactor(OutlierMixin, NeighborsEstimator):  # type: ignore[misc]
    """sklearn.neighbors.LocalOutlierFactor over an exact search on all cores; parameters as there.

    The values equal scikit-learn's where no two neighbours tie at a k-th distance; of tied ones the lowest
    row number is taken here, any by scikit-learn. Copies differ: a row with more than n_neighbors copies has
    no density, and scikit-learn takes 1e10 for it, which makes rows near it outliers of factors up to 1e7 and
    more. Here such a row counts 1, and is left out where others are compared with it; see docs/library.md.
    Nor is 1e-10 added to mean distances, so the scale of the data does not matter.

    metric: 'euclidean', 'l2', 'minkowski' with p=2, 'cosine' (zero rows lie at 1 from others, at 0 from one
    another); another is an InputError, a ValueError. Sparse input is a TypeError. algorithm and leaf_size are
    taken and change nothing. n_jobs=None takes all cores.

    Attributes: negative_outlier_factor_ [n] float64, 1 with the sign turned is ordinary, lower is more
    abnormal; offset_; n_neighbors_, at most n - 1; n_samples_fit_; n_features_in_; effective_metric_.
    """

    def __init__(
        self,
        n_neighbors: int = 20,
        *,
        algorithm: str = "auto",
        leaf_size: int = 30,
        metric: str = "minkowski",
        p: float = 2,
        metric_params: dict[str, Any] | None = None,
        contamination: str | float = "auto",
        novelty: bool = False,
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
        self.contamination = contamination
        self.novelty = novelty

    def fit(self, X: Any, y: Any = None) -> LocalOutlierFactor:
        """Measures rows X [n, d], n >= 2; y is ignored. InputError, a ValueError, for parameters that cannot
        be served."""
        check_contamination(self.contamination)
        rows = self._fit(X, least=2)
        n = self.n_samples_fit_
        if self.n_neighbors > n:
            warnings.warn(
                f"n_neighbors ({self.n_neighbors}) is greater than the total number of samples ({n}). "
                "n_neighbors will be set to (n_samples - 1) for estimation.",
                stacklevel=2,
            )
        self.n_neighbors_ = min(int(self.n_neighbors), n - 1)

        threads = threads_of(self.n_jobs)
        self._density = FittedDensity(rows, self.n_neighbors_, self.effective_metric_, threads)
        self.negative_outlier_factor_ = -self._density.columns["lof"]
        self.offset_ = offset_of(self.negative_outlier_factor_, self.contamination, AUTO_OFFSET)
        return self

    @available_if(OF_FITTED)
    def fit_predict(self, X: Any, y: Any = None) -> Array:
        """[n] int: -1 for rows of X [n, d] whose factor lies below offset_, 1 for others."""
        self.fit(X)
        return labels(self.negative_outlier_factor_ - self.offset_)

    @available_if(OF_NEW)
    def predict(self, X: Any) -> Array:
        """[n] int: -1 for rows of X [n, d] that are outliers among the fitted ones, 1 for others."""
        return labels(self.decision_function(X))

    @available_if(OF_NEW)
    def decision_function(self, X: Any) -> Array:
        """score_samples(X) - offset_, [n] float64: negative for outliers."""
        return self.score_samples(X) - self.offset_  # type: ignore[no-any-return]

    @available_if(OF_NEW)
    def score_samples(self, X: Any) -> Array:
        """[n] float64, the opposite of the factor of each row of X [n, d] among the fitted ones. A fitted row
        in X has itself as a neighbour, as with scikit-learn."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return -self._density.score(rows)["lof"]


def check_contamination(contamination: Any) -> None:
    """InputError unless contamination is "auto" or a number above 0 and at most 0.5."""
    share = isinstance(contamination, Real) and 0 < float(contamination) <= 0.5
    if not share and not (isinstance(contamination, str) and contamination == "auto"):
        raise InputError(f"contamination={contamination!r} must be 'auto' or lie in (0, 0.5]")


def offset_of(scores: Array, contamination: Any, auto: float) -> float:
    """The border below which scores [n] (lower = more abnormal) are outliers: `auto`, or that of a share."""
    if isinstance(contamination, str):
        return auto
    return float(np.percentile(scores, 100.0 * contamination))


def labels(decision: Array) -> Array:
    """[n] int: -1 where a decision is negative, else 1."""
    return np.where(decision < 0, -1, 1)
