"""What scenes are made of, and what their captions can name."""

from __future__ import annotations

from typing import NamedTuple

SIZE = 64  # of a scene's picture, pixels
COLOURS = {
    "red": (214, 40, 40), "yellow": (240, 210, 40), "green": (52, 150, 60), "blue": (40, 80, 205),
}  # fmt: skip
TEXTURES = ("solid", "striped", "dotted", "shaded")
SIZES = ("small", "medium", "large")


class Thing(NamedTuple):
    """One object: four words, and where its middle lies (pixels at SIZE) and how far it reaches."""

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
