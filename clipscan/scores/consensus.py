"""consensus: clipscan's own score, its default. What is unusual about a pair, and is it one of a kind?

No single sign sees all poison: what a model has learnt stands alone among pictures (density), what it has
not learnt is a wrong caption (cosine, cross), and either may be honest: a rare topic is alone too, and people
write wrong captions. But whoever plants a backdoor plants many pairs of one kind. So the judgement has two
steps.

1. Evidence of each pair. Draws of three sizes, 8k, 32k and 128k rows (128, 512 and 2,048 at k = 16:
   p R / k stays below 0.4 at one of them up to p = 5 %), give kdist, dao, lof and slof, and with captions
   cross and cosine. Each is put on one scale (scores/neg_log_tail.py): density is the mean of the density
   scores, weighted by the root of their sizes, as more rows tell a density more finely; cross-modal that of
   cross and cosine. misfit is what a witness says that knows no captions of these pairs (scores/witness.py).
2. Populations (scores/populations): pairs of one kind that other evidence convicts.

consensus of a pair in no population is the larger of its cross-modal evidence, misfit joined, and of its
density less LONELY nats, as there are always some who are alone: 0 (without captions -LONELY) to about ln
2n. Those who are most alone count by their neighbours' density too (Populations.lonely). Pairs of a
population come before all others, in steps of ten: LOOK, where they may belong to it, DROP, SURE. How it was
chosen and what it misses: docs/results.

Work, in products, for n pairs of width d, features of width p, m = min(n, FITTED), a = min(n / 25, 16,384):
    searches     352 k n d of int8 for pictures, as many for captions: k = 16 has 5,632 reference rows, where
                 dao by default has 8,192, for pictures only
    witness      0.8 m (p + d)^2 + (n + 2 m) (p + d) d at most, float64, and 16 decompositions of d x d
    traits       m ((p + d)^2 + d^2) / 2 and at most 36 n (p + d) + 16 n d, float64, and 2,048 n d of int8 for
                 neighborhoods of captions; both but the first once more for each population that is found
    the rest     2 a n d of int8 for those most alone, n^2 d / 50 at most for mismatched captions
Memory beyond the vectors: 2 n (p + 2 d) bytes of scaled features (none above HELD), 8 n d of directions in
float16, and what a search takes: codes, 2 n d at most, and its budget.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipscan.engine import Rows
from clipscan.engine.arrays import Array
from clipscan.engine.threads import linear_algebra
from clipscan.scores.local import Searcher
from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.pairs import Pairs
from clipscan.scores.populations import Evidence, Population, Populations
from clipscan.scores.populations.conviction import DIRECTIONS
from clipscan.scores.references import Identity, Scale, identify
from clipscan.scores.scaled import Scaled, fitted_rows
from clipscan.scores.scorer import Scorer
from clipscan.scores.slices import Columns, in_slices
from clipscan.scores.witness import Witness

DENSITY, CROSS_MODAL = ("kdist", "dao", "lof", "slof"), ("cross", "cosine")
SIZES = {8: 8, 32: 4, 128: 2}  # reference rows, in units of k, and draws of each: large ones vary less
LONELY = 1.5
LOOK, DROP, SURE = 30.0, 40.0, 50.0  # ln 2n stays below the first
WITHIN = 9.5  # what the order within a step may add


class Judgement(NamedTuple):
    """score float64 [n]; misfit [n], None without captions; populations, surest first; most_copies: how often
    a reference met one and the same row."""

    score: Array
    misfit: Array | None
    populations: list[Population]
    most_copies: int


def judge(
    image: Rows,
    text: Rows | None,
    identity: Identity,
    searcher: Searcher,
    seed: int = 0,
    pictures: Rows | None = None,
) -> Judgement:
    """consensus of n image rows and, where given, their captions; `pictures`: untrained features [n, p] of
    the same rows."""
    with linear_algebra(searcher.threads, image.n):
        scales = [
            Scale(f"{size * searcher.k}x{draws}", size * searcher.k, draws) for size, draws in SIZES.items()
        ]
        methods = DENSITY + (CROSS_MODAL if text else ())
        signs = Scorer(image, text, identity, methods, scales, searcher, seed=seed)
        columns = in_slices(signs.columns, image)[0]
        density = _density(columns, {scale.name: scale.rows for scale in scales})
        cross_modal = np.zeros_like(density) if text is None else _cross_modal(columns)

        said = None if text is None else identify(text, threads=searcher.threads).content
        fitted = fitted_rows(identity.code, _pairs(identity.content, said))
        features = Scaled([pictures or image], fitted)
        asked, shown, witness, misfit = None, None, None, np.full_like(density, np.nan)
        if text is not None:
            witness = Witness(features, text, identity.code)
            asked = _asked(witness, np.maximum(density, cross_modal))
            shown = witness.canonical(DIRECTIONS)
            misfit = neg_log_tail(asked)
        if pictures is not None:
            features = Scaled([pictures, image], fitted)

        pairs = Pairs(image, text, pictures or image, identity, searcher, seed)
        independent = pictures is not None
        found = Populations(
            Evidence(pairs, features, density, cross_modal, misfit, shown, independent, asked, witness)
        )
        populations = found.found()
        evidence = found.lonely() - LONELY
        if text is not None:
            evidence = np.maximum(evidence, neg_log_tail(cross_modal + misfit / 2))
        return Judgement(ranked(evidence, populations), asked, populations, signs.most_copies)


def _asked(witness: Witness, suspicion: Array) -> Array:
    """misfit [n], by a witness that trusts the rows that nothing speaks against."""

    def against(rows: Array, found: Array | None) -> Array:
        return suspicion[rows] if found is None else suspicion[rows] + neg_log_tail(found)

    return witness.trimmed(against)


def _pairs(content: Array, said: Array | None) -> Array:
    """A number for each different pair of picture and caption [n]."""
    if said is None:
        return content
    return np.unique(content * (said.max() + 1) + said, return_inverse=True)[1].ravel()


def ranked(evidence: Array, populations: list[Population]) -> Array:
    """The score [n] by evidence [n]: populations first, then whoever bears the trait of one."""
    score = np.max([evidence, *(population.bearing for population in populations)], axis=0)
    for population in populations:
        order = WITHIN * (1 - np.arange(len(population.rows)) / len(population.rows))
        step = np.full(len(population.rows), LOOK)
        step[: population.number] = DROP
        step[: population.fewest] = SURE
        np.maximum.at(score, population.rows, step + order)
    return score  # type: ignore[no-any-return]


def _density(columns: Columns, size: dict[str, int]) -> Array:
    names = [name for name in columns if _plain(name) in DENSITY]
    weights = [size[name.partition("@")[2]] ** 0.5 for name in names]
    return neg_log_tail(np.average([neg_log_tail(columns[name]) for name in names], axis=0, weights=weights))


def _cross_modal(columns: Columns) -> Array:
    """Of cross, the mean of its sizes, and of cosine."""
    cross = np.mean([neg_log_tail(columns[n]) for n in columns if _plain(n) == "cross"], axis=0)
    return neg_log_tail(cross + neg_log_tail(columns["cosine"]))


def _plain(name: str) -> str:
    return name.partition("@")[0]
