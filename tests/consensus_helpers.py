"""Random pairs, and their consensus."""

import numpy as np
from disturbance import SEED
from worlds import World

import clipscan

SMALL = 300  # rows of a world, where nobody is planted
K = 4


def pairs(n=SMALL, seed=0):
    """float32: images and captions [n, D], and innocent features."""
    world = World(10 * SEED + seed)
    return tuple(x[:n].astype(np.float32) for x in (world.image, world.text, world.pictures))


def scored(image, text=None, pictures=None, **how):
    method = ["consensus"] if text is None else ["consensus", "misfit"]
    return clipscan.score(image, text=text, pictures=pictures, method=method, **({"k": K} | how))
