"""All draws of all scales one behind another, so that a batch of rows meets them in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipscan.engine import Neighbors, Rows
from clipscan.engine.arrays import Array
from clipscan.scores.local import Batch, Searcher, Tables


@dataclass
class Stack:
    """All draws of all scales one behind another, so that a batch of rows meets them in one pass.

    `spans` says where draw number r of a scale lies: (scale name, r) -> rows [begin, end). Draws of one
    number nest, so the smaller scales are the beginnings of the largest and cost nothing more.
    """

    searcher: Searcher
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
        return self.searcher.spans(queries, reference, group, self.group, list(self.spans.values()))


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
