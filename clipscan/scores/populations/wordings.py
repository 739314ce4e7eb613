"""captions: captions that say the same, most of them on pictures that they do not fit."""

from __future__ import annotations

import numpy as np

from clipscan.engine import as_rows
from clipscan.engine.arrays import Array
from clipscan.scores.groups import components
from clipscan.scores.pairs import NEIGHBORS
from clipscan.scores.populations.change_point import FEWEST
from clipscan.scores.populations.evidence import Evidence
from clipscan.scores.populations.population import Population

MISMATCHED = 0.02  # share of the rows that count as mismatched
MOSTLY = 0.5  # of the pairs that say the same must be mismatched


def by_captions(evidence: Evidence, mismatch: Array) -> list[Population]:
    """Groups of captions that say the same, most of whose pairs are among those of highest mismatch [n]."""
    pairs = evidence.pairs
    count = max(FEWEST, round(MISMATCHED * evidence.n))
    mismatched = evidence.chosen(pairs.highest_first(mismatch, most=count))
    caption = pairs.wording
    first = np.unique(caption, return_index=True)[1]
    hits, rows = np.bincount(caption, mismatched), np.bincount(caption)
    asked = np.flatnonzero(hits)  # captions of mismatched pairs
    if len(first) < 2:
        return []
    distinct = as_rows(pairs.said.parts[0][first])
    searcher = pairs.searcher.with_k(min(NEIGHBORS, len(first) - 1))
    table = searcher.between(as_rows(distinct.take(asked)), distinct, asked, np.arange(len(first)))
    near = table.distance <= pairs.same
    share = (hits[asked] + (hits[table.index] * near).sum(axis=1)) / (
        rows[asked] + (rows[table.index] * near).sum(axis=1)
    )
    dense = np.zeros(len(first), bool)
    dense[asked[share >= MOSTLY]] = True
    a, b = np.repeat(asked, searcher.k), table.index.ravel()
    linked = near.ravel() & dense[a] & dense[b]
    label = components(len(first), a[linked], b[linked])
    found = []
    for one in np.unique(label[dense]):
        inside = (label == one) & dense
        alike = np.union1d(np.flatnonzero(inside), table.index[inside[asked][:, None] & near])
        members = np.flatnonzero(inside[caption])
        # Of wordings that say the same a few are mismatched by chance: all that say so must be, mostly.
        wrong = hits[alike].sum() >= MOSTLY * rows[alike].sum()
        if not wrong or evidence.pictures.count(members) < FEWEST or evidence.conviction.boilerplate(members):
            continue
        members = pairs.highest_first(mismatch, members)
        sure = int(mismatched[members].sum())
        found.append(evidence.population("captions", members, sure, len(members), evidence.misfit))
    return found
