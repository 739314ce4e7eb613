"""Distances in float64 of rows of any size: no square over- or underflows."""

from __future__ import annotations

import numpy as np

from clipscan.engine.arrays import Array

BLOCK_BYTES = 1 << 20  # of candidate rows in float64 at once: they stay in a cache
SQUARED = 2.0**400  # differences between this and its inverse have squares of full precision


def measured(queries: Array, reference: Array, index: Array) -> tuple[Array, Array]:
    """Candidates [n, c] of the queries [n, d], rows of reference [m, d], in order of (distance, index):
    (distance, index). A distance beyond float64 is +inf."""
    distance = np.empty(index.shape)
    step = max(1, BLOCK_BYTES // (8 * index.shape[1] * queries.shape[1]))
    wide = max(1, BLOCK_BYTES // (8 * queries.shape[1]))
    for at in range(0, len(queries), step):
        block = slice(at, at + step)
        for first in range(0, index.shape[1], wide):
            part = slice(first, first + wide)
            with np.errstate(over="ignore"):
                difference = reference[index[block, part]] - queries[block, None]
                distance[block, part] = _length(difference)
    order = np.lexsort((index, distance), axis=1)
    return np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1)


def _length(difference: Array) -> Array:
    """Norms [n, c] of differences [n, c, d], each scaled by its largest coordinate where squares need it."""
    largest = np.maximum(difference.max(axis=2), -difference.min(axis=2))
    if ((largest == 0) | ((largest > 1 / SQUARED) & (largest < SQUARED))).all():
        return np.sqrt(np.einsum("ncd,ncd->nc", difference, difference))  # type: ignore[no-any-return]
    exponent = np.frexp(largest)[1]
    scaled = np.ldexp(difference, -exponent[..., None])
    return np.ldexp(np.sqrt(np.einsum("ncd,ncd->nc", scaled, scaled)), exponent)
