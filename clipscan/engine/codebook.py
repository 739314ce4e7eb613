"""How rows become int8 codes: one shift, one rotation, one scale for a whole search.

The shift removes the common part of CLIP vectors (they sit in a narrow cone), the rotation (random signs,
then a Hadamard transform) spreads their few huge coordinates, and then one scale fits all coordinates of
almost all rows. None of the three changes an answer: every row carries a bound on what its code leaves out.
The arithmetic is `encode` in engine/reference.py; csrc/encode.h holds the proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clipscan.engine.arrays import Array, Rows

SAMPLE, SCALE_SAMPLE = 1024, 512  # rows that the centre is fitted on, and the scale
UNCLIPPED = 0.995  # share of them that the scale leaves whole; of the others the largest coordinates are cut
MOST = 0.9  # a share of them that is never wild
FAR = 2.0  # times as far out as those: such rows are cut too, however many, or they would blur the rest
SEED = 20260  # of the signs: any will do, a fixed one makes the work reproducible


class Codebook(NamedTuple):
    centre: Array  # [d] float32: the median, which no few rows can move
    sign: Array  # [2, width] float32 of -1 and 1: before each of the two transforms
    gain: float  # codes per unit, a float32

    @property
    def width(self) -> int:
        """Codes a row: d rounded up to whole words of four."""
        return int(self.sign.shape[1])


def fit(sets: Sequence[Rows]) -> Codebook:
    """The codebook for searches among the rows of `sets`, from a sample of each."""
    samples = [_sample(rows, SAMPLE // len(sets)) for rows in sets]
    sample = np.concatenate(samples)
    d = sample.shape[1]
    width = -(-d // 4) * 4
    sign = np.random.default_rng(SEED).choice(np.array([-1, 1], np.float32), (2, width))
    centre = _median(sample) if len(sample) else np.zeros(d, np.float32)
    some = sample[:: -(-len(sample) // SCALE_SAMPLE) or 1]
    largest = np.abs(rotate(some, centre, sign)).max(axis=1, initial=0.0)
    largest = largest[largest > 0]  # copies of one picture may be the centre itself
    if not len(largest):
        return Codebook(centre, sign, 1.0)
    most, almost_all = np.quantile(largest, [MOST, UNCLIPPED])
    reach = min(almost_all, FAR * most)
    gain = np.float32(min(127.0 / reach, 1e30))
    return Codebook(centre, sign, float(gain))


def rotate(rows: Array, centre: Array, sign: Array) -> Array:
    """[n, d] float32 -> [n, width] float32, rotated about the centre (and stretched by sqrt(span) where the
    width is a power of two).

    The transform takes a power of two of coordinates, `span`. Where the width is none, it is applied to the
    first `span` coordinates and then to the last, which reaches all of them. Every operation is the one
    that the kernels do, in their order, so codes agree bit by bit.
    """
    width = sign.shape[1]
    span = 1 << (width.bit_length() - 1)
    y = np.zeros((len(rows), width), np.float32)
    y[:, : rows.shape[1]] = rows - centre
    y *= sign[0]
    _hadamard(y[:, :span])
    if span < width:
        shrink = np.float32(1 / np.sqrt(span))
        y[:, :span] *= shrink
        y *= sign[1]
        _hadamard(y[:, width - span :])
        y[:, width - span :] *= shrink
    return y


def _median(rows: Array) -> Array:
    """The upper median of each column; faster than NumPy's, which averages two."""
    middle = len(rows) // 2
    return np.ascontiguousarray(np.partition(np.ascontiguousarray(rows.T), middle, axis=1)[:, middle])


def _hadamard(y: Array) -> None:
    """Unnormalised, in place, along the last axis."""
    h = 1
    while h < y.shape[1]:
        pairs = y.reshape(len(y), -1, 2, h) if y.flags.c_contiguous else _pairs(y, h)
        a, b = pairs[:, :, 0].copy(), pairs[:, :, 1].copy()
        pairs[:, :, 0], pairs[:, :, 1] = a + b, a - b
        h *= 2


def _pairs(y: Array, h: int) -> Array:
    """y [n, count] as [n, count / 2h, 2, h], without a copy."""
    row, column = y.strides
    return np.lib.stride_tricks.as_strided(
        y, (len(y), y.shape[1] // (2 * h), 2, h), (row, 2 * h * column, h * column, column)
    )


def _sample(rows: Rows, count: int) -> Array:
    if rows.n <= count:
        return rows.block(0, rows.n)
    return rows.take(np.sort(np.random.default_rng(SEED).choice(rows.n, count, replace=False)))
