"""The structured triggers of PAR (Singh, Croce & Hein 2024): stripes, triangles, a watermark of text.

Each is a pure function like those of triggers.py, drawn anew for the picture's size.
"""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from clipscan.errors import InputError

Pixels = NDArray[np.uint8]  # [h, w, 3]

DARK, LIGHT = 0.4 * 255, 0.8 * 255  # the two shades of the triangles
LETTER = 8  # px: below this height the outlines of letters are lost
RED = (255, 0, 0)


def stripes(
    picture: Pixels, random: Random, *, share: float = 1 / 8, bars: int = 4, pattern: int = 0
) -> Pixels:
    """A patch of upright bars in fully saturated colours, anywhere in the picture (PAR's BadNet-Stripes).

    share: side of the patch as a part of the picture's shorter side; bars: across it, at least a pixel
    wide each; `pattern` numbers the colours. InputError when the patch does not fit.
    """
    height, width = picture.shape[:2]
    bar = max(1, round(share * min(height, width) / max(1, bars)))
    side = bar * bars
    if not 1 <= side <= min(height, width):
        raise InputError(f"{bars} bars of {bar} px do not fit {width} x {height} px; use a smaller share")
    steps = np.random.default_rng([bars, pattern]).integers(1, 8, bars)  # neighbours differ
    colours = np.cumsum(steps)[:, None] >> np.arange(3) & 1  # [bars, 3]
    top, left = random.randint(0, height - side), random.randint(0, width - side)
    marked = picture.copy()
    marked[top : top + side, left : left + side] = 255 * colours.repeat(bar, axis=0)
    return marked


def triangles(picture: Pixels, _: Random, *, alpha: float = 0.15, cells: int = 8) -> Pixels:
    """The picture mixed with a grid of squares cut into a light and a dark triangle (PAR's
    Blended-Triangles): (1 - alpha) x + alpha grid. cells: squares along the shorter side."""
    _between(alpha)
    height, width = picture.shape[:2]
    cell = max(1, min(height, width) // max(1, cells))
    row, column = np.indices((height, width)) % cell
    grid = np.where(row >= column, DARK, LIGHT)[..., None]
    return _pixels((1 - alpha) * picture + alpha * grid)


def watermark(
    picture: Pixels, _: Random, *, alpha: float = 0.5, text: str = "sample", lines: int = 4
) -> Pixels:
    """Red writing across the whole picture, shining through (PAR's Blended-Text): where there is a letter,
    (1 - alpha) x + alpha red.

    lines: how many of them fill the height; a letter is at least LETTER px high, so that small pictures have
    fewer.
    """
    _between(alpha)
    if not str(text).strip():
        raise InputError("text must not be empty: it is what the watermark says")
    height, width = picture.shape[:2]
    letters = alpha * _letters(height, width, str(text), lines)[..., None]  # [h, w, 1]
    return _pixels((1 - letters) * picture + letters * np.array(RED))


def _letters(height: int, width: int, text: str, lines: int) -> NDArray[np.float64]:
    """[h, w] in 0..1: the text again and again, each line beginning elsewhere."""
    size = max(LETTER, height // max(1, lines))
    sheet = Image.new("L", (width, height))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    long = f"{text} " * (1 + 4 * width // (size * len(text)))
    for number, top in enumerate(range(0, height, size)):
        draw.text((-number * size, top), long, 255, font, "lt")
    return np.asarray(sheet) / 255.0


def _between(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha={alpha} must be between 0 and 1")


def _pixels(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
