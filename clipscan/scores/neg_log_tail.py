"""The one scale on which different scores are added: how rare a value is among all rows."""

from __future__ import annotations

import numpy as np

from clipscan.engine.arrays import Array


def neg_log_tail(values: Array) -> Array:
    """-ln of the share of rows that are at least as high, in nats: 0 for the lowest, ln 2n for the highest of
    n values (half a row is taken off, so that the highest has a value); its mean is about 1. NaN has 0."""
    known = np.sort(values)
    known = known[~np.isnan(known)]
    above = len(known) - np.searchsorted(known, values, side="left")
    return np.where(np.isnan(values), 0.0, -np.log(np.maximum(above - 0.5, 0.5) / max(1, len(known))))


def neg_log_tails(several: Array) -> Array:
    """Of each row of [t, n]."""
    return np.array([neg_log_tail(values) for values in several])
