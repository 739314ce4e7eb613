"""Scores of rows against one reference: densities, their ratios, and the captions beside them.

Higher = more suspicious, always. Formulas: engine/reference.py; agree and cross: `Reference.cross_modal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from clipscan.engine import Neighbors, Rows, as_rows, choose, density, numpy_of, search, search_spans
from clipscan.engine.arrays import Array
from clipscan.scores.copies import REFERENCE, Copies
from clipscan.scores.table import LOCAL

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Searcher:
    """How to search; passed down instead of four arguments."""

    k: int
    backend: str = "auto"
    devices: str = "auto"
    threads: int = 1
    max_memory: int | None = None

    def within(self, rows: Rows) -> Neighbors:
        """The rows among themselves."""
        return search(rows, None, self.k, **self._how)

    def between(
        self, queries: Rows, reference: Rows, query_id: Array | None, reference_id: Array | None
    ) -> Neighbors:
        """The queries against all rows of the reference, on the host."""
        return self.spans(queries, reference, query_id, reference_id, [(0, reference.n)])[0].map(numpy_of)

    def spans(
        self, queries: Rows, reference: Rows, query_id: Array | None, reference_id: Array | None, spans: Spans
    ) -> list[Neighbors]:
        """A table for each span of the reference, where the queries lie. Without an identity of the queries
        nothing is excluded."""
        ids = (query_id, None if query_id is None else reference_id)
        return search_spans(queries, reference, self.k, *ids, spans, **self._how, on_host=False)

    def with_k(self, k: int) -> Searcher:
        return replace(self, k=k)

    @property
    def _how(self) -> dict[str, Any]:
        return self._where | {"max_memory": self.max_memory}

    @property
    def _where(self) -> dict[str, Any]:
        return {"backend": self.backend, "devices": self.devices, "threads": self.threads}

    def density(self, table: Neighbors, reference: dict[str, Array] | None = None) -> dict[str, Array]:
        return density(table, reference, **self._where)

    def mean_cosine(self, a: Rows, b: Array, index: Array) -> Array:
        chosen = choose(self.backend, self.k, 1, self.devices)[1]
        return chosen.mean_cosine(a.block(0, a.n), b, index, self.threads)


class Batch(NamedTuple):
    """Query rows: images, their captions where known, and the identity that each row must not meet."""

    image: Rows
    text: Rows | None
    image_group: Array | None
    text_group: Array | None


class Tables(NamedTuple):
    """Neighbours of a batch among the rows of one reference: of its images, of its captions where asked.
    They may lie on a GPU."""

    images: Neighbors
    captions: Neighbors | None


@dataclass
class Reference:
    """m reference rows with their own densities; `joint` adds their captions to the images.

    The rows differ; `copies` says which of them were drawn several times. text_group [m]: a query does not
    see captions of its own group. In joint mode each distinct caption counts once: captions from templates
    would otherwise fill every neighbourhood.
    """

    searcher: Searcher
    image: Rows
    text: Rows | None = None
    text_group: Array | None = None
    joint: bool = False
    copies: Copies | None = None
    own: Neighbors | None = None  # the reference among itself, each row without itself; searched if not given
    density: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        if self.own is None:
            self.own = self.searcher.within(self.image)
        tables = [self.own]
        if self.joint:
            assert self.text is not None and self.text_group is not None
            self._distinct = np.sort(np.unique(self.text_group, return_index=True)[1])
            self._captions = as_rows(self.text.take(self._distinct))
            self._caption_group = np.ascontiguousarray(self.text_group[self._distinct])
            images_of_captions = self.searcher.between(self._captions, self.image, None, None)
            tables = [
                self._with_captions(self.own, self.image, self.text_group),
                self._with_captions(images_of_captions, self._captions, self._caption_group),
            ]
        own = Neighbors.concatenate(tables)
        self.density = self.searcher.density(own)
        if self.copies is not None:
            self._base = own.n
            self.density = self._with_copies(self.copies, own)

    def _with_copies(self, copies: Copies, own: Neighbors) -> dict[str, Array]:
        """What is asked of the reference rows, and behind it the same of a copy of each of `copies`, whose
        first neighbours are the other copies. own: the table of the rows among themselves."""
        table = copies.first(own.map(lambda x: numpy_of(x)[copies.row]), copies.content, own.n)
        behind = {name: np.zeros(table.n) for name in REFERENCE}
        for _ in range(2):  # k-distance and LID need no reference, lrd needs the k-distances of the copies
            known = {name: np.append(self.density[name], behind[name]) for name in REFERENCE}
            behind = self.searcher.density(table, known)
        return {name: np.append(self.density[name], behind[name]) for name in REFERENCE}

    def own_scores(self, methods: Sequence[str]) -> dict[str, Array]:
        """Columns of the reference rows themselves (reference="all": no second search)."""
        assert self.own is not None
        captions = self.searcher.within(self.text) if self.text and "cross" in methods else None
        out = {name: column[: self.image.n] for name, column in self.density.items()}
        out |= self._cross_modal(methods, self.image, self.text, Tables(self.own, captions))
        return {method: out[method] for method in methods if method in out}

    def score(self, methods: Sequence[str], batch: Batch, tables: Tables) -> dict[str, Array]:
        """Columns of a batch of n rows, float64 [n] each, from its neighbours among the reference rows."""
        out: dict[str, Array] = {}
        if any(method in LOCAL for method in methods):
            images = tables.images
            full = self._with_captions(images, batch.image, batch.text_group) if self.joint else images
            out |= self._densities(full, batch.image_group)
        out |= self._cross_modal(methods, batch.image, batch.text, tables)
        return {method: out[method] for method in methods if method in out}

    def _densities(self, table: Neighbors, content: Array | None) -> dict[str, Array]:
        out = self.searcher.density(table, self.density)
        if self.copies is None or content is None or not (beside := self.copies.beside(content)).any():
            return out
        found = self.searcher.density(self.copies.first(table, content, self._base), self.density)
        # k different neighbours tell a dimension, not the few that copies leave; a heap of k has none.
        return found | {
            name: np.where(beside < table.k, out[name], found[name]) for name in ("lid", "lid_mom")
        }

    def _cross_modal(
        self, methods: Sequence[str], image: Rows, text: Rows | None, tables: Tables
    ) -> dict[str, Array]:
        """agree: do pictures like mine carry captions like mine? cross: do captions like mine go with
        pictures like mine? Each is minus the mean cosine over the k neighbours in the other tower."""
        out: dict[str, Array] = {}
        if "agree" in methods and text is not None and self.text is not None:
            out["agree"] = -self.searcher.mean_cosine(text, self._text_rows, numpy_of(tables.images.index))
        if "cross" in methods and tables.captions is not None:
            index = numpy_of(tables.captions.index)
            out["cross"] = -self.searcher.mean_cosine(image, self._image_rows, index)
        return out

    def _with_captions(self, table: Neighbors, queries: Rows, group: Array | None) -> Neighbors:
        captions = self.searcher.between(queries, self._captions, group, self._caption_group)
        captions.index[captions.index >= 0] += self.image.n
        return Neighbors.merge(table.map(numpy_of), captions)

    @cached_property
    def _image_rows(self) -> Array:
        return self.image.block(0, self.image.n)

    @cached_property
    def _text_rows(self) -> Array:
        assert self.text is not None
        return self.text.block(0, self.text.n)


def pair_cosine(image: Rows, text: Rows) -> Array:
    """1 - cosine of each pair, [n]: a caption that is wrong for its picture lies far from it; a zero
    vector has cosine 0. The usual CLIP-score filter, turned so that higher is more suspicious."""
    out = [1.0 - _cosine(block, text.block(start, start + len(block))) for start, block in image.blocks()]
    return np.concatenate(out)


def _cosine(a: Array, b: Array) -> Array:
    ab, aa, bb = (np.einsum("nd,nd->n", x, y, dtype=np.float64) for x, y in ((a, b), (a, a), (b, b)))
    scale = np.sqrt(aa * bb)
    return np.divide(ab, scale, out=np.zeros_like(ab), where=scale > 0)
