"""Pairs of pictures and captions, and which are near one another by both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array, unit
from clipscan.scores.groups import SAME, typical_distance
from clipscan.scores.local import Searcher
from clipscan.scores.pictures import Pictures
from clipscan.scores.references import Identity, Scale, identify
from clipscan.scores.scaled import in_steps

NEIGHBORS = 16
# Captions a third as far apart as two random ones count as much as pictures that are strangers.
CAPTION_SCALE = 3.0
SAMPLED = 4096  # rows, by twos, that say how far apart strangers are
COPY_BOUND = 1000  # of them, that say how far near-copies are


@dataclass
class Pairs:
    """n image rows and, where given, caption rows; looks [n, p]: the pictures by features that no caption has
    taught anything, or the image rows. `drawn`: rows that stand for all."""

    image: Rows
    text: Rows | None
    looks: Rows
    identity: Identity
    searcher: Searcher
    seed: int = 0

    def __post_init__(self) -> None:
        self.n = self.image.n
        self.drawn = self.identity.sample(Scale("strangers", SAMPLED, 1), 0, self.seed)
        self.pictures = Pictures(self.identity.content, self.looks, self.searcher, self.drawn[:COPY_BOUND])
        self._apart = [
            typical_distance(rows.take(self.drawn)) for rows in (self.image, self.text) if rows is not None
        ]

    @property
    def same(self) -> float:
        """Captions whose directions lie nearer than this say the same."""
        return SAME * self._apart[1]

    def highest_first(self, values: Array, rows: Array | None = None) -> Array:
        """These rows, or all, by their values [n]; equal ones by their lots, whatever the order of rows."""
        rows = np.arange(self.n) if rows is None else rows
        return rows[np.lexsort((self.identity.code[rows], -values[rows]))]

    def near(self, rows: Array, k: int = NEIGHBORS) -> Array:
        """The nearest rows by picture and caption of each of these, [len(rows), k]."""
        searcher = self.searcher.with_k(min(k, self.n - 1))
        return searcher.between(as_rows(self._joint(rows)), self._space, rows, np.arange(self.n)).index

    def alike(self, rows: Array, k: int) -> Array:
        """The rows of nearest captions of each of these, [len(rows), k]."""
        turn, said = self._by_lot
        searcher = self.searcher.with_k(min(k, self.n - 1))
        return turn[searcher.between(as_rows(self.said.take(rows)), said, rows, turn).index]  # type: ignore[no-any-return]

    @cached_property
    def wording(self) -> Array:
        """Which caption each row has, [n] int64: 0, 1, ..., equal for equal ones."""
        assert self.text is not None
        return identify(self.text, threads=self.searcher.threads).content

    @cached_property
    def said(self) -> Rows:
        """Directions of captions, float16."""
        assert self.text is not None
        return as_rows([_halved(unit(self.text.take(rows))) for rows in in_steps(np.arange(self.n))])

    @cached_property
    def _by_lot(self) -> tuple[Array, Rows]:
        """Rows by lot, so that ties of captions do not go by the order of rows, and directions of theirs."""
        turn = self.highest_first(np.zeros(self.n))
        return turn, as_rows([self.said.take(rows) for rows in in_steps(turn)])

    @cached_property
    def _space(self) -> Rows:
        return as_rows([_halved(self._joint(part)) for part in in_steps(np.arange(self.n))])

    def _joint(self, rows: Array) -> Array:
        """Directions of pictures beside those of captions, [len(rows), 2 d], in units of random pairs."""
        picture = unit(self.image.take(rows)) / np.float32(self._apart[0])
        if self.text is None:
            return picture
        return np.hstack([picture, unit(self.text.take(rows)) * np.float32(CAPTION_SCALE / self._apart[1])])


def _halved(rows: Array) -> Array:
    """Half the memory; of the search for groups, not of a score."""
    return rows.astype(np.float16)
