"""All columns that were asked for, a slice of rows at a time: those of a Scorer, and the consensus beside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipscan.scores.consensus import Consensus
from clipscan.scores.scorer import Columns, Scorer


@dataclass
class Panel(Scorer):
    """A Scorer that knows "consensus" too, which has references of its own: one column whatever `scales`
    says, and no spread."""

    def __post_init__(self) -> None:
        self._consensus = None
        if "consensus" in self.methods:
            self._consensus = Consensus(self.image, self.text, self.identity, self.engine, self.seed)
        self.methods = [method for method in self.methods if method != "consensus"]
        if self.methods:
            super().__post_init__()
        if self._consensus:
            self.most_copies = max(self.most_copies, self._consensus.most_copies)

    def columns(self, start: int, stop: int) -> tuple[Columns, Columns]:
        """(scores, spread) of rows [start, stop), name -> float64 [stop - start]."""
        scores, spread = super().columns(start, stop) if self.methods else ({}, {})
        if self._consensus:
            scores = {"consensus": self._consensus.column(start, stop)} | scores
            spread = {"consensus": np.zeros(stop - start)} | spread
        return scores, spread
