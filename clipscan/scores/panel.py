"""All columns that were asked for, a slice of rows at a time: one Scorer, and the consensus beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clipscan.engine import Neighbors, Rows
from clipscan.engine.arrays import Array
from clipscan.scores.consensus import Consensus
from clipscan.scores.local import Engine
from clipscan.scores.references import Identity, Scale
from clipscan.scores.scorer import Columns, Scorer


@dataclass
class Panel:
    """Scores of n image rows and their captions; fields as in Scorer. "consensus" has references of its
    own, so it has one column whatever `scales` says, and no spread."""

    image: Rows
    text: Rows | None
    identity: Identity
    methods: Sequence[str]
    scales: Sequence[Scale]
    engine: Engine
    joint: bool = False
    seed: int = 0
    given: Rows | None = None
    graph: Neighbors | None = None
    drawn: dict[str, list[Array]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        others = [method for method in self.methods if method != "consensus"]
        self._scorer = self._consensus = None
        if others:
            self._scorer = Scorer(
                self.image, self.text, self.identity, others, self.scales, self.engine, self.joint, self.seed,
                self.given, self.graph,
            )  # fmt: skip
            self.drawn = self._scorer.drawn
        if "consensus" in self.methods:
            self._consensus = Consensus(self.image, self.text, self.identity, self.engine, self.seed)

    def columns(self, start: int, stop: int) -> tuple[Columns, Columns]:
        """(scores, spread) of rows [start, stop), name -> float64 [stop - start]."""
        scores, spread = self._scorer.columns(start, stop) if self._scorer else ({}, {})
        if self._consensus:
            scores = {"consensus": self._consensus.column(start, stop)} | scores
            spread = {"consensus": np.zeros(stop - start)} | spread
        return scores, spread
