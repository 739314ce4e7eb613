"""collapse: captions that say the same, whose pictures the suspect model draws together."""

from __future__ import annotations

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.populations.change_point import FEWEST
from clipscan.scores.populations.discriminant import AGAIN, bearing
from clipscan.scores.populations.evidence import Evidence
from clipscan.scores.populations.population import Population
from clipscan.scores.populations.topics import ASKED, TOPIC, different

UNUSUAL = 4.5  # robust deviations of a neighborhood's contraction, in logarithms, at least


def by_collapse(evidence: Evidence, left: Array) -> list[tuple[Population, float]]:
    """Populations among the rows `left` ([n] bool), and how much of the trait there is in each. None without
    features that the suspect model had no part in."""
    chosen = _contracted(evidence, left) if evidence.independent else []
    if not chosen:
        return []
    for _ in range(1 + AGAIN):
        traits = evidence.trait.each(chosen)
        chosen = [left & bearing(trait, one) for trait, one in zip(traits, chosen, strict=True)]
    found = []
    for trait, one in zip(traits, chosen, strict=True):
        rows = evidence.pairs.highest_first(trait, np.flatnonzero(one))
        if evidence.pictures.count(rows) >= FEWEST and evidence.conviction.of_collapse(rows, trait):
            unasked = np.full(evidence.n, np.nan)
            collapse = evidence.population("collapse", rows, len(rows), len(rows), unasked, trait)
            found.append((collapse, float(trait[rows].sum())))
    return found


def _contracted(evidence: Evidence, left: Array) -> list[Array]:
    """Of captions drawn at random the neighborhoods whose pictures the suspect model draws together far more
    than is usual here, each of another meaning, [n] bool."""
    asked = evidence.pairs.highest_first(left.astype(np.float64), most=ASKED)
    near = evidence.pairs.alike(asked, TOPIC)
    values = np.log([evidence.conviction.contraction(rows) for rows in near])
    low, median, high = np.quantile(values, [0.16, 0.5, 0.84])
    unusual = values - median >= UNUSUAL * (high - low) / 2
    return different(evidence, asked[unusual], near[unusual], values[unusual], left)
