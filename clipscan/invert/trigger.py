"""A recovered trigger: a mask and a pattern, and what they make of pictures. Nothing but arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class Form(NamedTuple):
    """A kind of trigger: what is free while it is sought."""

    canvas: int = 1  # it lives on S // canvas pixels a side, at a random place where that leaves room
    even: bool = False  # one strength for the whole canvas, not one for each pixel
    tint: bool = False  # one colour, with a strength for each of its channels, instead of a pattern


FORMS = {  # the names are explained in report/recovered_triggers.py
    "anywhere": Form(canvas=2),
    "fixed": Form(),
    "faint": Form(even=True),
    "tint": Form(even=True, tint=True),
}


class Trigger(NamedTuple):
    """clamp(pattern * mask + picture * (1 - mask)), the pixels scaled to 0..1."""

    mask: Floats  # [c, c, 1], or [c, c, 3] for a tint; 0..1
    pattern: Floats  # [c, c, 3], 0..1

    def cost(self, size: int) -> float:
        """The part of a picture of size x size pixels that the mask replaces: area * strength."""
        return float(self.mask.mean(axis=2).sum() / size**2)

    def area(self, size: int) -> float:
        """Share of the picture that the mask covers: (sum m)^2 / sum m^2 pixels; 0 for an empty mask.

        Where the mask is 0 or 1 that is the number of ones; elsewhere it needs no threshold.
        """
        cover = self.mask.mean(axis=2)
        total = float(cover.sum())
        return total**2 / float((cover**2).sum()) / size**2 if total else 0.0

    def strength(self) -> float:
        """How far the mask replaces what it covers, 0..1: sum m^2 / sum m. 0 for an empty mask."""
        cover = self.mask.mean(axis=2)
        total = float(cover.sum())
        return float((cover**2).sum()) / total if total else 0.0


def stamp(pictures: Pixels, trigger: Trigger, seed: int) -> Pixels:
    """uint8 [n, S, S, 3] -> the same with the trigger in them, rounded to 8 bits as a file would be.

    A canvas smaller than the picture lies at a place of its own in each, drawn from `seed`.
    """
    n, size = pictures.shape[:2]
    canvas = len(trigger.mask)
    corner = np.random.default_rng(seed).integers(0, size - canvas + 1, (n, 2))
    row = (corner[:, :1] + np.arange(canvas))[:, :, None]  # [n, c, 1]
    column = (corner[:, 1:] + np.arange(canvas))[:, None, :]  # [n, 1, c]
    which = np.arange(n)[:, None, None]
    out = pictures.copy()
    under = pictures[which, row, column].astype(np.float32)
    shown = 255 * trigger.pattern * trigger.mask + under * (1 - trigger.mask)
    out[which, row, column] = np.rint(np.clip(shown, 0, 255))
    return out
