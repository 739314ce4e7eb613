"""Where a population ends: a change point in the evidence of pictures that are ordered by a trait.

Each picture adds the logarithm of a likelihood ratio, that of p-values which crowd at 0 (Beta(SHAPE, 1))
against uniform ones; the sum is highest at the maximum-likelihood change point. Of clean pairs alone, whose
evidence is exponential whatever their trait, it ever exceeds a strength with a probability below
exp(-strength) (Ville's inequality; Wald 1945). The end is put where half of the pictures are planted: there
evidence is halfway between theirs and the usual.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipscan.engine.arrays import Array

FEWEST = 12  # pictures that are a population
HALF = float(np.log(2))  # evidence that half of the clean rows have
SHAPE = 0.35
SURE = 3.0  # how far below its maximum the sum is at ends that are hardly worse, at most
ROUNDS = 8


class Shown(NamedTuple):
    """Pictures in the order in which m rows first show them: `evidence` of each, the least of its rows, as
    several captions count as the one that fits best; the `last` row before the next picture. honest [m]: rows
    of pictures one of whose captions fits."""

    evidence: Array
    last: Array
    honest: Array

    @classmethod
    def of(cls, label: Array, evidence: Array) -> Shown:
        """Rows in order: which picture each has, and its evidence."""
        if label.max(initial=-1) < len(label) == len(np.flatnonzero(np.bincount(label))):
            return cls(evidence, np.arange(len(label)), np.zeros(len(label), bool))  # a picture a row
        _, at, of, rows = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
        least = np.full(len(at), np.inf)
        np.minimum.at(least, of.ravel(), evidence)
        turn = np.argsort(at, kind="stable")
        last = np.append(at[turn][1:], len(label)) - 1
        return cls(least[turn], last, ((rows > 1) & (least < HALF))[of.ravel()])


def strength(evidence: Array) -> float:
    """The highest sum of log likelihood ratios, of evidence in the order of a trait."""
    return float(_ratio(evidence).cumsum().max())


def likelihoods(evidence: Array) -> Array:
    """[m]: the sums of log likelihood ratios less what they grow by where half of the pictures are planted.
    They end where these are highest, but how much that is depends on the mean of the planted ones: it is
    found in rounds."""
    ratio = _ratio(evidence)
    end, before = 2 * FEWEST, 0
    for _ in range(ROUNDS):
        half = np.log(SHAPE) + (1 - SHAPE) * (evidence[:end].mean() + evidence.mean()) / 2
        total = np.cumsum(ratio - max(0.0, half))
        end, before = max(2 * FEWEST, int(np.argmax(total)) + 1), end
        if end == before:
            break
    return total


def ends(total: Array) -> tuple[int, int, int]:
    """The first and the last end that are hardly worse than the best of [m] sums of log likelihoods, and
    between them the posterior mean of all."""
    likely = np.flatnonzero(total >= total.max() - SURE)
    weight = np.exp(total - total.max())
    mean = np.arange(len(total)) @ weight / weight.sum()
    return int(likely[0]), round(float(np.clip(mean, likely[0], likely[-1]))), int(likely[-1])


def null_share(evidence: Array) -> float:
    """Estimated share of clean pairs: half of them have less evidence than HALF, of planted ones hardly any,
    so it is an upper estimate (Storey 2002). NaN where evidence is."""
    return min(1.0, 2 * float((evidence < HALF).mean())) if np.isfinite(evidence).all() else np.nan


def _ratio(evidence: Array) -> Array:
    return np.log(SHAPE) + (1 - SHAPE) * evidence  # type: ignore[no-any-return]
