"""Random rows, and the float64 definition that every search must equal."""

import numpy as np

from clipscan.engine import reference

MEMORY = 1 << 30


def exact(x, y, k, own=True):
    ids = np.arange(len(x)) if own else None
    return reference.knn(np.asarray(x, np.float32), np.asarray(y, np.float32), k, ids, ids)


def rows(n, d, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)
