"""Pairs of pictures and captions, and which are near one another by both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipscan.engine import Rows, as_rows
from clipscan.engine.arrays import Array, unit
from clipscan.scores.groups import SAME, typical_distance
from clipscan.scores.local import Searcher
from clipscan.scores.pictures import Pictures
from clipscan.scores.references import Identity, Scale, identify
from clipscan.scores.scaled import STEP

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

    def highest_first(self, values: Array, rows: Array | None = None, most: int | None = None) -> Array:
        """These rows, or all, by their values [n], `most` of them at most; equal ones by their lots, whatever
        the order of rows."""
        rows = np.arange(self.n) if rows is None else rows
        if most is not None and most < len(rows):
            least = np.partition(values[rows], -most)[-most]  # of none the lowest
            return self.highest_first(values, rows[values[rows] >= least])[:most]
        return rows[np.lexsort((self.identity.code[rows], -values[rows]))]

    def near(self, rows: Array, k: int = NEIGHBORS) -> Array:
        """The nearest rows by picture and caption of each of these, [len(rows), k]."""
        searcher = self.searcher.with_k(min(k, self.n - 1))
        text = self.text.take(rows) if self.text else None
        asked = as_rows(self._joint(self.image.take(rows), text))
        return searcher.between(asked, self._space, rows, np.arange(self.n)).index

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
        text = self.text
        return self._halved(lambda start, stop: unit(text.block(start, stop)), text.d)

    @cached_property
    def _by_lot(self) -> tuple[Array, Rows]:
        """Rows by lot, so that ties of captions do not go by the order of rows, and directions of theirs."""
        turn = self.highest_first(np.zeros(self.n))
        return turn, as_rows(self.said.parts[0][turn])

    @cached_property
    def _space(self) -> Rows:
        image, text = self.image, self.text
        return self._halved(
            lambda start, stop: self._joint(
                image.block(start, stop), None if text is None else text.block(start, stop)
            ),
            image.d + (0 if text is None else text.d),
        )

    def _joint(self, image: Array, text: Array | None) -> Array:
        """Directions of pictures beside those of captions, [m, 2 d], in units of random pairs."""
        picture = unit(image) / np.float32(self._apart[0])
        if text is None:
            return picture
        return np.hstack([picture, unit(text) * np.float32(CAPTION_SCALE / self._apart[1])])

    def _halved(self, rows: Callable[[int, int], Array], width: int) -> Rows:
        """All rows(start, stop) as float16: half the memory; of the search for groups, not of a score."""
        found = np.empty((self.n, width), np.float16)
        for start in range(0, self.n, STEP):
            stop = min(self.n, start + STEP)
            found[start:stop] = rows(start, stop)
        return as_rows(found)
