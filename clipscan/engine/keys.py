"""Neighbours as keys, numbers that sort by (distance, index) as in csrc/refine.h; how tables are merged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.engine.protocol import Table

# Keys [n, k] uint64: the bits of the float32 distance above, the row number below.
NO_KEY = np.uint64(0x7F800000FFFFFFFF)  # nobody: (+inf, -1)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
CHUNK = 1 << 17  # keys: a merge in chunks of a megabyte stays in L2, and takes 40 % less


def merge(keys: Array, distance: Array, index: Array) -> None:
    """The k smallest of two ascending lists of k that share no neighbour, for each row, in place of `keys`.

    They are the smaller of one list and the other read backwards, one by one (the first half of a bitonic
    merge). A row of 16 takes 40 ns; Neighbors.merge, which also copes with a neighbour in both lists, 1,700.
    """
    for part in _chunks(keys):
        bits = distance[part].view(np.uint32).astype(np.uint64)
        new = bits << HALF | index[part].astype(np.uint32)
        np.minimum(keys[part], new[:, ::-1], out=keys[part])
        keys[part].sort(axis=1)


def unpack(keys: Array) -> Table:
    """Keys -> distance and index, which takes the memory of the keys."""
    distance, index = np.empty(keys.shape, np.float32), keys.view(np.int64)
    for part in _chunks(keys):
        distance[part] = distance_of(keys[part])
        row = keys[part] & LOW
        index[part] = np.where(row == LOW, -1, row.astype(np.int64))
    return distance, index


def distance_of(keys: Array) -> Array:
    return (keys >> HALF).astype(np.uint32).view(np.float32)


def _chunks(keys: Array) -> Iterator[slice]:
    rows = max(1, CHUNK // keys.shape[1])
    return (slice(begin, begin + rows) for begin in range(0, len(keys), rows))
