"""The one scale on which different scores are added: how rare a value is among all rows."""

from __future__ import annotations

import numpy as np

from clipscan.engine.arrays import Array


def neg_log_tail(values: Array) -> Array:
    """-ln of the share of rows that are at least as high, in nats: 0 for the lowest, ln 2n for the highest of
    n values (half a row is taken off, so that the highest has a value); its mean is about 1. NaN has 0."""
    order = np.argsort(values)
    order = order[: len(values) - int(np.isnan(values).sum())]  # NaN comes last
    known, at = values[order], np.arange(len(order))
    at[1:][known[1:] == known[:-1]] = 0  # equal values have the place of the first
    share = (len(order) - np.maximum.accumulate(at) - 0.5) / max(1, len(order))
    found = np.zeros(len(values))
    found[order] = -np.log(share)
    return found


def neg_log_tails(several: Array) -> Array:
    """Of each row of [t, n]."""
    return np.array([neg_log_tail(values) for values in several])
