"""Random pairs whose norms differ."""

import numpy as np


def pairs(n=300, d=12, seed=0):
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((8, d))
    image = centres[rng.integers(0, 8, n)] + rng.standard_normal((n, d))
    text = image + 0.5 * rng.standard_normal((n, d))
    return image.astype(np.float32), text.astype(np.float32)
