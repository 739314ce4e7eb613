"""clipscan's own score as a scikit-learn outlier detector."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_array, validate_data

from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.scores import score
from clipscan.scores.consensus import DROP
from clipscan.sklearn.lof import check_contamination, labels, offset_of
from clipscan.sklearn.neighbors import check_neighbors, threads_of

CONVICTED = float(np.nextafter(-DROP, 0))  # just above: those at DROP are outliers too


class ConsensusDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """`clipscan.score` by consensus: poisoned pairs among n samples, judged together.

    fit(X) takes pictures' vectors [n, d]; fit(X, text=captions) those of the captions [n, d] beside them, in
    the same order; paired=True takes both as one matrix [n, 2 d], pictures left, captions right, for steps
    that pass one matrix on. fit(X, pictures=features) adds features of the same pictures from another model.
    Vectors are taken as they leave the encoder, not standardised: poison shows in the norm too.

    contamination: "auto" labels what is convicted, which may be nothing; a share in (0, 0.5] the rows that
    rank first. n_neighbors: as `k` there, less where there are fewer rows. random_state: an integer seed.
    It judges a whole set, so it has fit_predict and no predict for new rows.

    Attributes: negative_score_ [n] float64, lower is more abnormal, consensus with the sign turned; offset_;
    population_ [n] int64, the convicted population of each row, -1 for none; result_, the ScoreResult;
    n_features_in_. InputError, a ValueError, for what does not fit.
    """

    def __init__(
        self,
        *,
        contamination: str | float = "auto",
        paired: bool = False,
        n_neighbors: int = 16,
        random_state: int = 0,
        n_jobs: int | None = None,
    ):
        self.contamination = contamination
        self.paired = paired
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None, *, text: Any = None, pictures: Any = None) -> ConsensusDetector:
        """Judges rows X [n, d] with captions text [n, d] and features pictures [n, p]; y is ignored.
        InputError, a ValueError, for what does not fit."""
        check_contamination(self.contamination)
        check_neighbors(self.n_neighbors)
        _check_seed(self.random_state)
        image = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        if self.paired:
            if text is not None or image.shape[1] % 2:
                raise InputError(
                    f"paired=True takes pictures and captions as one matrix of twice their width, got width "
                    f"{image.shape[1]}" + (" and text=" if text is not None else "")
                )
            image, text = np.hsplit(image, 2)
        beside = {
            name: check_array(one, dtype=[np.float64, np.float32], input_name=name)
            for name, one in {"text": text, "pictures": pictures}.items()
            if one is not None
        }
        k = min(int(self.n_neighbors), len(image) - 1)
        threads = threads_of(self.n_jobs)
        self.result_ = score(
            image, **beside, method="consensus", k=k, seed=int(self.random_state), threads=threads
        )
        self.negative_score_ = -self.result_.columns["consensus"]
        self.population_ = self.result_.population
        self.offset_ = offset_of(self.negative_score_, self.contamination, CONVICTED)
        return self

    def fit_predict(self, X: Any, y: Any = None, *, text: Any = None, pictures: Any = None) -> Array:
        """[n] int: -1 for rows whose negative_score_ lies below offset_, 1 for others. Arguments and
        InputError as `fit`."""
        self.fit(X, text=text, pictures=pictures)
        return labels(self.negative_score_ - self.offset_)


def _check_seed(random_state: Any) -> None:
    if isinstance(random_state, bool) or not isinstance(random_state, Integral):
        raise InputError(f"random_state must be an integer, the seed; got {random_state!r}")
