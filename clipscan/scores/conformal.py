"""How sure is it? Scores held against those of pairs that are known to be clean.

Any score that treats all rows alike gives valid p-values when clean rows of the dataset and trusted rows are
scored together: under "clean" a row is as likely as any trusted one to come out on top.

- Bates, Candes, Lei, Romano, Sesia: Testing for outliers with conformal p-values, Annals of Statistics 2023.
- Marandon, Lei, Mary, Roquain: Adaptive novelty detection with false discovery rate guarantee, Annals of
  Statistics 2024: scores may be made from the tested and the trusted rows together.
- Benjamini, Hochberg: Controlling the false discovery rate, JRSS B 1995.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from clipscan.engine.arrays import Array
from clipscan.errors import InputError


def p_values(scores: ArrayLike, trusted: ArrayLike) -> Array:
    """For each of n scores (1 + how many of m trusted ones are at least as high) / (1 + m), float64 [n].

    Higher = more suspicious. NaN scores nothing: 1; a trusted NaN counts as the highest, which errs on the
    careful side. InputError unless both are one-dimensional and m >= 1.
    """
    values, known = np.asarray(scores, np.float64), np.asarray(trusted, np.float64)
    if values.ndim != 1 or known.ndim != 1 or not len(known):
        raise InputError(f"p-values need scores [n] and trusted [m >= 1], got {values.shape}, {known.shape}")
    ascending = np.sort(np.where(np.isnan(known), np.inf, known))
    above = len(known) - np.searchsorted(ascending, values, side="left")
    return np.where(np.isnan(values), 1.0, (1 + above) / (1 + len(known)))


def discoveries(p: ArrayLike, rate: float) -> Array:
    """Which of n p-values to call poison, bool [n], so that on average at most `rate` of those called are
    clean: all up to the largest p with p <= rate * (how many are at most p) / n.

    InputError unless 0 < rate < 1.
    """
    values = np.asarray(p, np.float64)
    if not 0 < rate < 1:
        raise InputError(f"a false discovery rate lies between 0 and 1, got {rate}")
    ascending = np.sort(values)
    passing = np.flatnonzero(ascending <= rate * np.arange(1, len(values) + 1) / len(values))
    return values <= ascending[passing[-1]] if len(passing) else np.zeros(len(values), bool)


def fewest(n: int, m: int, rate: float) -> int:
    """The smallest number of rows that m trusted ones can convict among n: below it even a row above all
    trusted ones proves nothing."""
    return int(np.ceil(n / (rate * (1 + m))))
