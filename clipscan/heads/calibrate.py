"""Clean pictures -> a Fit. One half of them makes prototypes and units, the other sets floors and threshold.

A picture aligns better with a prototype that it helped to make than a fresh one does, and floors taken from
such pictures would flag too many fresh ones. So they are order statistics of pictures that had no part in the
prototypes: for m of these and a rate p, the floor is the f-th smallest alignment and the threshold the f-th
largest score, f = floor(p (m + 1)). A fresh picture of the same kind passes either with probability at most
f / (m + 1) (split conformal prediction, Papadopoulos et al. 2002), whatever the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from clipscan.errors import DataError, InputError
from clipscan.heads.decompose import Floats, Terms
from clipscan.heads.statistics import Doubles, Fit, judge, mean_shortfalls

ROUNDING = 1e-4  # of the mean: a term that varies less is constant, and its deviations are rounding
ALIKE = 1e-12  # below this even the mean is nothing


def needed(rate: float) -> int:
    """Clean pictures that a false-alarm rate needs: half of them must hold one that may be flagged."""
    if not 0 < rate <= 0.5:
        raise InputError(f"rate={rate} must be a share of clean pictures, above 0 and at most 0.5")
    return 2 * max(1, math.ceil(1 / rate - 1e-9) - 1)


def prototypes(batches: Iterable[Terms]) -> Floats:
    """[L, H + 1, d]: the mean of every term over all pictures. DataError where there is none."""
    total, count = np.zeros(()), 0
    for terms in batches:
        total = total + terms.blocks.sum(axis=0, dtype=np.float64)
        count += len(terms.blocks)
    if not count:
        raise DataError("not one clean picture can be read, so there is nothing to make prototypes of")
    return (total / count).astype(np.float32)


def calibrate(
    prototype: Floats, makers: Doubles, others: Doubles, rate: float, settings: dict[str, Any]
) -> Fit:
    """prototype [L, H + 1, d]; makers [n, L, H + 1]: alignments of the pictures that made it, others
    [m, L, H + 1]: of as many that did not; rate: how many of fresh clean pictures may be flagged, and for
    how many a head may count as infected.

    DataError where there are too few for the rate; InputError for a rate that is none.
    """
    least = needed(rate) // 2
    if min(len(makers), len(others)) < least:
        raise DataError(
            f"{len(makers) + len(others):,} readable clean pictures; a false-alarm rate of {rate:g} needs "
            f"{2 * least:,}. Give more, or state a higher rate"
        )
    mean = makers.mean(axis=0)
    scale = np.maximum(makers.std(axis=0), np.maximum(ROUNDING * np.abs(mean), ALIKE))
    spread = [max(float(one.std()), ALIKE) for one in mean_shortfalls((mean - makers) / scale)]
    passing = math.floor(rate * (len(others) + 1) + 1e-9)
    floor = np.sort(others[:, -1, :-1], axis=0)[passing - 1]
    fit = Fit(prototype, mean, scale, floor, np.array(spread), math.inf, settings)
    threshold = float(np.sort(judge(fit, others).score)[-passing])
    return Fit(prototype, mean, scale, floor, fit.unit, threshold, settings)
