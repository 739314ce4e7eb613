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
from clipscan.scores.forest import Forest, grow, iforest
from clipscan.scores.local import CROSS, LOCAL, Batch, Engine, Reference, pair_cosine
from clipscan.scores.references import Identity, Scale, identify

Columns = dict[str, Array]

FOREST_ROWS = 1 << 16  # of a larger reference, the first in hash order: 100 trees of 256 rows see no more


@dataclass
class Scorer:
    """Scores of n image rows (and their captions) at one or several reference scales.

    Draws of one scale are averaged: the arithmetic mean of each score, except DAO, a product of powers
    that one draw can dominate, whose logarithm is averaged. The spread is the standard deviation over
    the draws, of the logarithm for DAO.
    """

    image: Rows
    text: Rows | None
    identity: Identity
    methods: Sequence[str]
    scales: Sequence[Scale]
    engine: Engine
    joint: bool = False
    seed: int = 0
    given: Rows | None = None  # the reference rows themselves, in place of a draw
    graph: Neighbors | None = None  # self-search table of the whole set, where it exists already
    drawn: dict[str, list[Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._text_group = (
            identify(self.text, threads=self.engine.threads).group if self.joint and self.text else None
        )
        self._references: dict[str, list[Reference]] = {}
        self._forests: dict[str, list[Forest]] = {}
        self._whole: dict[str, Columns] = {}
        for scale in self.scales:
            self.drawn[scale.name] = [] if self.given else self._draw(scale)
            self._prepare(scale)

    def columns(self, start: int, stop: int) -> tuple[Columns, Columns]:
        """(scores, spread) of rows [start, stop), name -> float64 [stop - start]."""
        mean: Columns = {}
        spread: Columns = {}
        batch = self._batch(start, stop)
        if "cosine" in self.methods and batch.text is not None:
            mean["cosine"], spread["cosine"] = pair_cosine(batch.image, batch.text), np.zeros(stop - start)
        for scale in self.scales:
            draws = self._score(scale, batch, start, stop)
            for method in self.methods:
                if method in draws[0]:
                    name = self.name(method, scale)
                    mean[name], spread[name] = _average(method, [draw[method] for draw in draws])
        return mean, spread

    def name(self, method: str, scale: Scale) -> str:
        """The column of a method at a scale: plain where there is one scale, else "dao@1024x8"."""
        return method if len(self.scales) == 1 else f"{method}@{scale.name}"

    def _draw(self, scale: Scale) -> list[Array]:
        draws = scale.draws if scale.fits(self.image.n) else 1
        return [self.identity.sample(scale, draw, self.seed) for draw in range(draws)]

    def _prepare(self, scale: Scale) -> None:
        whole = not self.given and not scale.fits(self.image.n)
        if any(method in (*LOCAL, *CROSS) for method in self.methods):
            if whole:
                self._whole[scale.name] = self._everything().own_scores(self.methods)
            else:
                self._references[scale.name] = [
                    self._reference(rows) for rows in self.drawn[scale.name] or (None,)
                ]
        if "iforest" in self.methods:
            self._forests[scale.name] = [
                grow(rows, seed=[self.seed, draw]) for draw, rows in enumerate(self._forest_rows(scale))
            ]

    def _forest_rows(self, scale: Scale) -> list[Array]:
        if self.given:
            return [self.given.block(0, self.given.n)]
        return [self.image.take(rows[:FOREST_ROWS]) for rows in self.drawn[scale.name]]

    def _everything(self) -> Reference:
        own = np.arange(self.image.n, dtype=np.int64)
        return Reference(self.engine, self.image, self.text, own, self._text_group, self.joint, self.graph)

    def _reference(self, rows: Array | None) -> Reference:
        if rows is None:
            assert self.given is not None
            return Reference(self.engine, self.given)
        return Reference(
            self.engine,
            as_rows(self.image.take(rows)),
            as_rows(self.text.take(rows)) if self.text else None,
            self.identity.of_sample(rows),
            self._text_group[rows] if self._text_group is not None else None,
            self.joint,
        )

    def _batch(self, start: int, stop: int) -> Batch:
        return Batch(
            as_rows(self.image.block(start, stop), self.image.name),
            as_rows(self.text.block(start, stop), self.text.name) if self.text else None,
            None if self.given else self.identity.group[start:stop],
            None if self._text_group is None else self._text_group[start:stop],
        )

    def _score(self, scale: Scale, batch: Batch, start: int, stop: int) -> list[Columns]:
        if scale.name in self._whole:
            draws = [{name: column[start:stop] for name, column in self._whole[scale.name].items()}]
        else:
            draws = [
                reference.score(self.methods, batch) for reference in self._references.get(scale.name, [])
            ]
        forests = self._forests.get(scale.name, [])
        draws = draws or [{} for _ in forests] or [{}]
        for out, forest in zip(draws, forests, strict=False):
            out["iforest"] = iforest(batch.image.block(0, batch.image.n), forest)
        return draws


def _average(method: str, draws: Sequence[Array]) -> tuple[Array, Array]:
    values = np.stack(draws)  # [draws, n]
    if method != "dao":
        return values.mean(axis=0), values.std(axis=0)
    values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return np.exp(values.mean(axis=0)), values.std(axis=0)
