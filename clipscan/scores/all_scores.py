"""All columns that were asked for, a slice of rows at a time: those of a Scorer, the consensus and misfit
beside."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clipscan.engine import Rows
from clipscan.engine.arrays import Array
from clipscan.scores.consensus import judge
from clipscan.scores.populations import Population
from clipscan.scores.scorer import Scorer
from clipscan.scores.slices import Columns
from clipscan.scores.table import JOINT


@dataclass
class AllScores(Scorer):
    """A Scorer that knows the scores of JOINT too: one column whatever `scales` says, and no spread.
    pictures [n, p]: untrained features, where there are any. populations: those that consensus found."""

    pictures: Rows | None = None
    populations: list[Population] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._joint: dict[str, Array] = {}
        asked = [method for method in self.methods if method in JOINT]
        self.methods = [method for method in self.methods if method not in JOINT]
        if asked:
            found = judge(self.image, self.text, self.identity, self.searcher, self.seed, self.pictures)
            known = {"consensus": found.score, "misfit": found.misfit}
            self._joint = {name: values for name in asked if (values := known[name]) is not None}
            self.populations = found.populations
        if self.methods:
            super().__post_init__()
        if asked:
            self.most_copies = max(self.most_copies, found.most_copies)

    def columns(self, start: int, stop: int) -> tuple[Columns, Columns]:
        """(scores, spread) of rows [start, stop), name -> float64 [stop - start]."""
        scores, spread = super().columns(start, stop) if self.methods else ({}, {})
        joint = {name: values[start:stop] for name, values in self._joint.items()}
        return joint | scores, {name: np.zeros(stop - start) for name in joint} | spread
