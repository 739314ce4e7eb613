"""Copies that a draw met: first among the neighbours of their own kind, one row for everybody else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipscan.engine import Neighbors, Rows, as_rows, numpy_of
from clipscan.engine.arrays import Array
from clipscan.scores.references import identify

REFERENCE = ("kdist", "lid", "lrd")  # what is asked of a reference row


class Copies(NamedTuple):
    """Rows that a draw met several times: content [c] ascending; row [c], where in the draw; others [c], how
    many copies beside the first.
    """

    content: Array
    row: Array
    others: Array

    @classmethod
    def among(cls, content: Array, times: Array) -> Copies | None:
        """Of a draw of different rows; None where each was met once."""
        again = np.flatnonzero(times > 1)
        again = again[np.argsort(content[again])]
        return cls(content[again], again, times[again] - 1) if len(again) else None

    def beside(self, content: Array) -> Array:
        """How many copies of each row of this content were met beside one, [n]."""
        at = self._slot(content)
        return np.where(self.content[at] == content, self.others[at], 0)

    def first(self, table: Neighbors, content: Array, base: int) -> Neighbors:
        """The table of rows of this content, each with its own copies in front: at distance 0, with the
        indices base, base + 1, ... of self.content."""
        column = np.arange(table.k) - self.beside(content)[:, None]
        distance, index = (
            np.take_along_axis(numpy_of(x), np.maximum(column, 0), axis=1)
            for x in (table.distance, table.index)
        )
        distance = np.where(column < 0, np.float32(0), distance)
        index = np.where(column < 0, base + self._slot(content)[:, None], index)
        return Neighbors(distance, index, table.backend, table.scale)

    def _slot(self, content: Array) -> Array:
        return np.minimum(np.searchsorted(self.content, content), len(self.content) - 1)


def once(rows: Rows, threads: int) -> tuple[Rows, int]:
    """The rows, each of equal ones once, in their order; and how often the most frequent one is there."""
    _, first, times = np.unique(
        identify(rows, threads=threads).content, return_index=True, return_counts=True
    )
    different = rows if len(first) == rows.n else as_rows(rows.take(np.sort(first)), rows.name)
    return different, int(times.max())


def most_of(graph: Neighbors) -> int:
    """How often the most frequent row occurs in a self-search table, at most k + 1 as far as it tells."""
    return 1 + int(((graph.distance == 0) & (graph.index >= 0)).sum(axis=1).max())


def remark(most: int, k: int, in_graph: bool = False) -> str:
    """What to tell the user where a reference met one row `most` times; "" where that changes little."""
    if most < max(k, 2):
        return ""
    met = f"one row has {most - 1} copies or more in the reference, which k={k} neighbours are filled with: "
    if in_graph:
        return met + (
            "lid, dao and logdao of the rows near it say nothing. A graph does not know who comes next; "
            "score the embeddings, where copies count once"
        )
    return met + "among the neighbours of other rows it counts once (clipscan/scores/references.py)"
