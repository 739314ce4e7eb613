"""All rows against all drawn references, a slice of rows at a time.

Building a Scorer draws the references and measures them among themselves; `columns` then scores any
slice of the rows, in any order, on any host, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipscan.engine import Neighbors, Rows, as_rows
from clipscan.engine.arrays import Array
from clipscan.scores.copies import Copies, once
from clipscan.scores.forest import Forest, grow, iforest
from clipscan.scores.local import Batch, Engine, Reference, Tables, pair_cosine
from clipscan.scores.references import Draw, Identity, Scale, identify
from clipscan.scores.table import SCORES, SEARCHED

Columns = dict[str, Array]
ColumnsOf = Callable[[int, int], tuple[Columns, Columns]]  # of rows [start, stop): (scores, spread)

TOGETHER_ROWS = 1 << 14  # of small shards: a search takes as long to set up for one row as for hundreds
QUERY_BYTES = 64 << 20  # float32 query rows scored at once
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
    engine: Engine
    joint: bool = False
    seed: int = 0
    given: Rows | None = None  # the reference rows themselves, in place of a draw
    graph: Neighbors | None = None  # self-search table of the whole set, where it exists already
    drawn: dict[str, list[Array]] = field(default_factory=dict)
    most_copies: int = field(default=1, init=False)  # how often a reference met one and the same row

    def __post_init__(self) -> None:
        self._text_group = (
            identify(self.text, threads=self.engine.threads).group if self.joint and self.text else None
        )
        self._different = self.identity.different
        self._references: dict[str, list[Reference]] = {}
        self._forests: dict[str, list[Forest]] = {}
        self._whole: dict[str, Columns] = {}
        if self.given:
            self.given, self.most_copies = once(self.given, self.engine.threads)
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
        return Reference(self.engine, self.image, self.text, self._text_group, self.joint, own=self.graph)

    def _reference(self, draw: Draw | None) -> Reference:
        if draw is None:
            assert self.given is not None
            return Reference(self.engine, self.given)
        rows = draw.rows
        return Reference(
            self.engine,
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
            return Stack(self.engine, self.given, None, None, {(self.scales[0].name, 0): (0, self.given.n)})
        names = list(self._references)
        draws, spans = stack([self.drawn[name] for name in names])
        rows = np.concatenate(draws)
        return Stack(
            self.engine,
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


def in_slices(columns: ColumnsOf, rows: Rows) -> tuple[Columns, Columns]:
    """(scores, spread) of all rows, computed a slice at a time."""
    step = max(1, QUERY_BYTES // (4 * rows.d))
    parts = [columns(start, min(rows.n, start + step)) for start in range(0, rows.n, step)]
    scores, spread = (
        {name: np.concatenate([part[side][name] for part in parts]) for name in parts[0][side]}
        for side in (0, 1)
    )
    return scores, spread


def together(columns: ColumnsOf, counts: Sequence[int]) -> ColumnsOf:
    """`columns`, of shards of so many rows each, asked for several at a time where they are small. Scores are
    the same for any slices."""
    ends = np.cumsum(counts)
    begin = end = 0
    held: tuple[Columns, Columns] = ({}, {})

    def of(start: int, stop: int) -> tuple[Columns, Columns]:
        nonlocal begin, end, held
        if not begin <= start < stop <= end:
            within = np.searchsorted(ends, start + TOGETHER_ROWS, side="right")
            begin, end = start, max(stop, int(ends[within - 1]) if within else 0)
            held = columns(begin, end)
        mean, spread = ({n: v[start - begin : stop - begin] for n, v in side.items()} for side in held)
        return mean, spread

    return of


@dataclass
class Stack:
    """All draws of all scales one behind another, so that a batch of rows meets them in one pass.

    `spans` says where draw number r of a scale lies: (scale name, r) -> rows [begin, end). Draws of one
    number nest, so the smaller scales are the beginnings of the largest and cost nothing more.
    """

    engine: Engine
    image: Rows
    text: Rows | None
    group: Array | None
    spans: dict[tuple[str, int], tuple[int, int]]

    def tables(self, batch: Batch) -> dict[tuple[str, int], Tables]:
        """The neighbours of a batch in each draw; of its captions where the stack has any."""
        images = self._search(batch.image, self.image, batch.image_group)
        captions: Sequence[Neighbors | None] = [None] * len(images)
        if self.text is not None and batch.text is not None:
            captions = self._search(batch.text, self.text, batch.image_group)
        return dict(zip(self.spans, map(Tables, images, captions), strict=True))

    def _search(self, queries: Rows, reference: Rows, group: Array | None) -> list[Neighbors]:
        return self.engine.spans(queries, reference, group, self.group, list(self.spans.values()))


def stack(
    drawn: Sequence[Sequence[Array]],
) -> tuple[list[Array], dict[tuple[int, int], tuple[int, int]]]:
    """Draws [scale][number] -> the longest of each number, and (scale, number) -> its span among them."""
    longest = [
        max((draws[number] for draws in drawn if number < len(draws)), key=len)
        for number in range(max(map(len, drawn)))
    ]
    begin = np.concatenate([[0], np.cumsum([len(rows) for rows in longest])])
    return longest, {
        (scale, number): (int(begin[number]), int(begin[number]) + len(rows))
        for scale, draws in enumerate(drawn)
        for number, rows in enumerate(draws)
    }


def _average(method: str, draws: Sequence[Array]) -> tuple[Array, Array]:
    values = np.stack(draws)  # [draws, n]
    if not SCORES[method].by_log:
        return values.mean(axis=0), values.std(axis=0)
    values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return np.exp(values.mean(axis=0)), values.std(axis=0)
