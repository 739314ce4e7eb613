"""Small random vectors, as the files of embeddings hold them."""

from __future__ import annotations

import numpy as np

ROWS = 40


def rows(seed: int = 0, width: int = 6, count: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
