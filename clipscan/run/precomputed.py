"""Vectors that were given, not made here: they stay where they are, and rows that are none are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipscan.data import Bad, Dataset, Sample, Shard
from clipscan.data.text import printable
from clipscan.engine import as_rows, bad_rows
from clipscan.errors import DataError

UNFIT = "its embedding is not finite, or its norm is above 3e18, which float32 distances cannot carry"


class PrecomputedShard:
    """A shard of precomputed vectors, shaped like an Embedded; arrays are None where they stay in place."""

    def __init__(self, image: Any, text: Any, samples: list[Sample], bad: list[Bad], moved: bool) -> None:
        self.image: Any = image if moved else None
        self.text: Any = text if moved else None
        self.untrained = None  # there is no picture to make them of
        self.image_norm = _norms(image)
        self.text_norm = _norms(text)
        self.samples, self.bad = samples, bad


def precomputed_vectors(dataset: Dataset, shard: Shard) -> PrecomputedShard:
    """Vectors stay where they are, unless some rows are no vectors: those are bad, and the rest is copied.

    Files that cannot be read or paired, or are of another width than most, are bad as a whole.
    """
    try:
        image, text, samples, broken = dataset.vectors(shard)
    except DataError as error:
        return PrecomputedShard(None, None, [], [Bad(shard.name, "", printable(str(error)))], moved=False)
    bad = dict.fromkeys(_unfit(image), UNFIT)
    if text is not None:
        bad |= dict.fromkeys(_unfit(text), f"of its caption, {UNFIT}")
    if not bad:
        return PrecomputedShard(image, text, samples, [], moved=False)
    bad |= broken  # rows of NaN, and why
    fit = np.ones(len(samples), bool)
    fit[list(bad)] = False
    refused = [Bad(samples[row].shard, samples[row].key, bad[row]) for row in sorted(bad)]
    good = [sample for row, sample in enumerate(samples) if fit[row]]
    kept = [None if rows is None else _writable(rows[fit]) for rows in (image, text)]
    return PrecomputedShard(kept[0], kept[1], good, refused, moved=True)


def _writable(rows: Any) -> Any:
    """bfloat16 as float32: a .npy does not keep its name."""
    return rows.astype(np.float32) if rows.dtype.name == "bfloat16" else rows


def _unfit(rows: Any) -> list[int]:
    """Numbers of the rows that the search would refuse."""
    return bad_rows(as_rows(rows)).tolist()  # type: ignore[no-any-return]


def _norms(rows: Any) -> Any:
    if rows is None:
        return None
    blocks = [np.linalg.norm(block, axis=1) for _, block in as_rows(rows).blocks()]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
