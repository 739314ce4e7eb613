"""All rows against all drawn references, a slice of rows at a time.

Building a Scorer draws the references and measures them among themselves; `columns` then scores any
slice of the rows, in any order, on any host, with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clipscan.engine import Neighbors, Rows, as_rows
from clipscan.engine.arrays import Array
from clipscan.scores.copies import Copies, once
from clipscan.scores.forest import Forest, grow, iforest
from clipscan.scores.local import Batch, Reference, Searcher, Tables, pair_cosine
from clipscan.scores.references import Draw, Identity, Scale, identify
from clipscan.scores.slices import Columns
from clipscan.scores.stack import Stack, stack
from clipscan.scores.table import SCORES, SEARCHED

FOREST_ROWS = 1 << 16  # of a larger reference, the first in hash order: 100 trees of 256 rows see no more


@dataclass
class Scorer:
    """Scores of n image rows (and their captions) at one or several reference scales.

    Draws of one scale are averaged: the arithmetic mean of each score, except DAO, a product of powers
    that one draw can dominate, whose logarithm is averaged. The spread is the standard deviation over
    the draws, of the logarithm for DAO. References hold different rows (scores/references.py).
    """

    image: Rows
    text: Rows | None
    identity: Identity
    methods: Sequence[str]
    scales: Sequence[Scale]
    searcher: Searcher
    joint: bool = False
    seed: int = 0
    given: Rows | None = None  # the reference rows themselves, in place of a draw
    graph: Neighbors | None = None  # self-search table of the whole set, where it exists already
    drawn: dict[str, list[Array]] = field(default_factory=dict)
    most_copies: int = field(default=1, init=False)  # how often a reference met one and the same row

    def __post_init__(self) -> None:
        self._text_group = (
            identify(self.text, threads=self.searcher.threads).group if self.joint and self.text else None
        )
        self._different = self.identity.different
        self._references: dict[str, list[Reference]] = {}
        self._forests: dict[str, list[Forest]] = {}
        self._whole: dict[str, Columns] = {}
        if self.given:
            self.given, self.most_copies = once(self.given, self.searcher.threads)
        for scale in self.scales:
            draws = [] if self.given else self._draw(scale)
            self.drawn[scale.name] = [draw.rows for draw in draws]
            self._prepare(scale, draws)
        self._stack = self._stacked()

    def columns(self, start: int, stop: int) -> tuple[Columns, Columns]:
        """(scores, spread) of rows [start, stop), name -> float64 [stop - start]."""
        rows = slice(start, stop)
        text = self.text.slice(start, stop) if self.text else None
        return self._columns(self._batch(self.image.slice(start, stop), text, rows), rows)

    def of(self, rows: Array) -> Columns:
        """Scores of the rows of these numbers, in that order."""
        text = as_rows(self.text.take(rows)) if self.text else None
        return self._columns(self._batch(as_rows(self.image.take(rows)), text, rows), rows)[0]

    def _columns(self, batch: Batch, rows: slice | Array) -> tuple[Columns, Columns]:
        mean: Columns = {}
        spread: Columns = {}
        if "cosine" in self.methods and batch.text is not None:
            mean["cosine"], spread["cosine"] = pair_cosine(batch.image, batch.text), np.zeros(batch.image.n)
        tables = self._stack.tables(batch) if self._stack else {}
        for scale in self.scales:
            draws = self._score(scale, batch, tables, rows)
            for method in self.methods:
                if method in draws[0]:
                    name = self.name(method, scale)
                    mean[name], spread[name] = _average(method, [draw[method] for draw in draws])
        return mean, spread

    def name(self, method: str, scale: Scale) -> str:
        """The column of a method at a scale: plain where there is one scale, else "dao@1024x8"."""
        return method if len(self.scales) == 1 else f"{method}@{scale.name}"

    def _draw(self, scale: Scale) -> list[Draw]:
        draws = scale.draws if scale.fits(self._different) else 1
        found = [self.identity.draw(scale, number, self.seed) for number in range(draws)]
        self.most_copies = max(self.most_copies, *(int(draw.times.max()) for draw in found))
        return found

    def _prepare(self, scale: Scale, draws: list[Draw]) -> None:
        if any(method in SEARCHED for method in self.methods):
            whole = not self.given and not scale.fits(self.image.n)
            if whole and self._different == self.image.n:  # of copies each would meet the others
                self._whole[scale.name] = self._everything().own_scores(self.methods)
            else:
                self._references[scale.name] = [self._reference(draw) for draw in draws or (None,)]
        if "iforest" in self.methods:
            self._forests[scale.name] = [
                grow(rows, seed=[self.seed, draw]) for draw, rows in enumerate(self._forest_rows(scale))
            ]

    def _forest_rows(self, scale: Scale) -> list[Array]:
        if self.given:
            return [self.given.block(0, self.given.n)]
        return [self.image.take(rows[:FOREST_ROWS]) for rows in self.drawn[scale.name]]

    def _everything(self) -> Reference:
        return Reference(self.searcher, self.image, self.text, self._text_group, self.joint, own=self.graph)

    def _reference(self, draw: Draw | None) -> Reference:
        if draw is None:
            assert self.given is not None
            return Reference(self.searcher, self.given)
        rows = draw.rows
        return Reference(
            self.searcher,
            as_rows(self.image.take(rows)),
            as_rows(self.text.take(rows)) if self.text else None,
            self._text_group[rows] if self._text_group is not None else None,
            self.joint,
            Copies.among(self.identity.content[rows], draw.times),
        )

    def _stacked(self) -> Stack | None:
        if not self._references:
            return None
        if self.given:
            return Stack(self.searcher, self.given, None, None, {(self.scales[0].name, 0): (0, self.given.n)})
        names = list(self._references)
        draws, spans = stack([self.drawn[name] for name in names])
        rows = np.concatenate(draws)
        return Stack(
            self.searcher,
            # The only draw may be all rows, which are not held twice.
            self._references[names[0]][0].image
            if len(draws) == len(names) == 1
            else as_rows(self.image.take(rows)),
            as_rows(self.text.take(rows)) if self.text and "cross" in self.methods else None,
            self.identity.content[rows],
            {(names[scale], draw): span for (scale, draw), span in spans.items()},
        )

    def _batch(self, image: Rows, text: Rows | None, rows: slice | Array) -> Batch:
        return Batch(
            image,
            text,
            None if self.given else self.identity.content[rows],
            None if self._text_group is None else self._text_group[rows],
        )

    def _score(
        self, scale: Scale, batch: Batch, tables: dict[tuple[str, int], Tables], rows: slice | Array
    ) -> list[Columns]:
        if scale.name in self._whole:
            draws = [{name: column[rows] for name, column in self._whole[scale.name].items()}]
        else:
            draws = [
                reference.score(self.methods, batch, tables[scale.name, draw])
                for draw, reference in enumerate(self._references.get(scale.name, []))
            ]
        forests = self._forests.get(scale.name, [])
        draws = draws or [{} for _ in forests] or [{}]
        for out, forest in zip(draws, forests, strict=False):
            out["iforest"] = iforest(batch.image.block(0, batch.image.n), forest)
        return draws


def _average(method: str, draws: Sequence[Array]) -> tuple[Array, Array]:
    values = np.stack(draws)  # [draws, n]
    if not SCORES[method].by_log:
        return values.mean(axis=0), values.std(axis=0)
    values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return np.exp(values.mean(axis=0)), values.std(axis=0)
