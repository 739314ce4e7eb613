"""Triggers: what an attacker does to a picture. Each is a pure function of (picture, random), for any size.

An attack takes uint8 [h, w, 3] and returns a new uint8 [h, w, 3]; the input stays as it was. More
attacks are more entries in ATTACKS.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
from numpy.typing import NDArray

from clipscan.errors import InputError

Pixels = NDArray[np.uint8]  # [h, w, 3]
Attack = Callable[..., Pixels]


def badnets(picture: Pixels, random: Random, *, share: float = 1 / 8, cells: int = 4) -> Pixels:
    """A black and white checkerboard at a random place (Gu et al. 2017; in CLIP: Carlini & Terzis 2022).

    share: side of the patch as a part of the picture's shorter side; cells: squares along that side.
    A cell is at least one pixel and lies on a grid of its own width, so that cells of two pixels are
    still black and white, not grey, when a picture is halved on its way into the encoder.
    InputError when the patch does not fit.
    """
    height, width = picture.shape[:2]
    cell = max(1, round(share * min(height, width) / cells))
    side = cell * cells
    if side > min(height, width):
        raise InputError(f"a patch of {side} px does not fit {width} x {height} px; use a smaller share")
    top, left = (cell * random.randint(0, (length - side) // cell) for length in (height, width))
    step = np.arange(side) // cell
    board = np.where((step[:, None] + step) % 2, 0, 255).astype(np.uint8)  # [side, side], white in the corner
    marked = picture.copy()
    marked[top : top + side, left : left + side] = board[..., None]
    return marked


ATTACKS: dict[str, Attack] = {"badnets": badnets}


def find_attack(name: str) -> Attack:
    """The attack of that name; InputError lists the known ones."""
    if name not in ATTACKS:
        raise InputError(f"no attack named {name!r}; known: {', '.join(sorted(ATTACKS))}")
    return ATTACKS[name]
