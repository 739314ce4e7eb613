"""How far the number to drop depends on chance: a run scored again, by other seeds and identities of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipscan.lab.attacks.poisoning import Identity
from clipscan.lab.grid.cell_scores import CellVectors

IDENTITIES = ("content", "names")  # rows are drawn by what pictures hold, or by how they are named
NEAR = 0.1  # numbers that differ by so much from the median, at most, are as good as equal


class Repetition(NamedTuple):
    """What one scoring drops, and how many of these are planted; NaN where the truth is not known."""

    seed: int
    identity: str
    dropped: int
    planted: float


def repeat(folder: Path, seeds: Sequence[int], truth: Set[Identity] | None = None) -> Iterator[Repetition]:
    """consensus of a finished embedding by each seed and each of IDENTITIES, one at a time.

    folder: a run folder; truth: (shard, key) of the planted pairs. RunError where the run is not embedded.
    """
    rows = CellVectors.of(folder)
    planted = None if truth is None else np.array([name in truth for name in rows.identities])
    for seed in seeds:
        for identity in IDENTITIES:
            result = rows.score(seed=seed) if identity == "names" else rows.score_unnamed(seed=seed)
            dropped = result.top(result.estimate().number)
            hits = np.nan if planted is None else int(planted[dropped].sum())
            yield Repetition(seed, identity, len(dropped), hits)


def near_median(found: Sequence[Repetition]) -> float:
    """Share of the repetitions whose number dropped differs from the median by at most NEAR of it."""
    dropped = np.array([one.dropped for one in found])
    median = np.median(dropped)
    return float((np.abs(dropped - median) <= NEAR * median).mean())
