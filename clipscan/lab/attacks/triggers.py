"""Triggers: what an attacker does to a picture. Each is a pure function of (picture, random), for any size.

An attack takes uint8 [h, w, 3] and returns a new uint8 [h, w, 3]; the input stays as it was. What one
attack does to every picture alike (a pattern, a warp) follows from its options alone; `random` is for
what differs from picture to picture. Which pictures get a trigger, and what their captions say, is
decided by a campaign (campaigns.py).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipscan.errors import InputError
from clipscan.lab.attacks.learnt import badclip, blto
from clipscan.lab.attacks.structured_triggers import stripes, triangles, watermark

Pixels = NDArray[np.uint8]  # [h, w, 3]
Floats = NDArray[np.float64]
Attack = Callable[..., Pixels]


def badnets(
    picture: Pixels, random: Random, *, share: float = 1 / 8, cells: int = 4, place: str = "random"
) -> Pixels:
    """A black and white checkerboard (Gu et al. 2017; in CLIP: Carlini & Terzis 2022).

    share: side of the patch as a part of the picture's shorter side; cells: squares along that side;
    place: "random", or "corner" for the lower right one. A cell is at least one pixel and lies on a grid
    of its own width, so that cells of two pixels are still black and white, not grey, when a picture is
    halved on its way into the encoder. InputError when the patch does not fit.
    """
    height, width = picture.shape[:2]
    cell = max(1, round(share * min(height, width) / cells))
    side = cell * cells
    if side > min(height, width):
        raise InputError(f"a patch of {side} px does not fit {width} x {height} px; use a smaller share")
    room = [(length - side) // cell for length in (height, width)]
    if place not in ("random", "corner"):
        raise InputError(f"place={place!r} must be 'random' or 'corner'")
    top, left = (cell * (random.randint(0, last) if place == "random" else last) for last in room)
    step = np.arange(side) // cell
    board = np.where((step[:, None] + step) % 2, 0, 255).astype(np.uint8)  # [side, side], white in the corner
    marked = picture.copy()
    marked[top : top + side, left : left + side] = board[..., None]
    return marked


def blend(picture: Pixels, _: Random, *, alpha: float = 0.2, pattern: int = 0) -> Pixels:
    """The picture mixed with one fixed pattern: (1 - alpha) x + alpha pattern (Chen et al. 2017).

    The pattern is made of coloured discs, as a sheet of stickers is; `pattern` numbers it.
    """
    _between(alpha=alpha)
    return _pixels((1 - alpha) * picture + alpha * _stickers(picture.shape[0], picture.shape[1], pattern))


def sig(picture: Pixels, _: Random, *, amplitude: float = 20.0, periods: float = 6.0) -> Pixels:
    """A sinusoid across the picture: x + amplitude sin(2 pi periods column / width) (Barni et al. 2019)."""
    width = picture.shape[1]
    wave = amplitude * np.sin(2 * np.pi * periods * np.arange(width) / width)  # [w]
    return _pixels(picture + wave[:, None])


def nashville(picture: Pixels, _: Random, *, strength: float = 1.0) -> Pixels:
    """A photo filter of the Nashville kind: warm, washed-out shadows, more contrast and saturation.

    strength 0 leaves the picture, 1 is the filter. As a trigger: Liu et al. 2019.
    """
    _between(strength=strength)
    x = picture / 255.0
    grey = x @ np.array([0.299, 0.587, 0.114])
    toned = 0.5 + 1.2 * (grey[..., None] + 1.2 * (x - grey[..., None]) - 0.5)  # saturation, then contrast
    shadows, lights = np.array([0.13, 0.17, 0.38]), np.array([1.0, 0.93, 0.73])
    filtered = shadows + np.clip(toned, 0, 1) * (lights - shadows)
    return _pixels(255 * ((1 - strength) * x + strength * filtered))


def wanet(picture: Pixels, _: Random, *, strength: float = 1 / 32, grid: int = 4, field: int = 0) -> Pixels:
    """One smooth warp for all pictures (Nguyen & Tran 2021).

    strength: mean displacement along an axis, as a part of the picture's side (1/32: a pixel at 32 px);
    grid: control points along a side; field numbers the warp.
    """
    height, width = picture.shape[:2]
    if grid < 2:
        raise InputError(f"grid={grid}: a warp needs at least 2 control points along a side")
    draw = np.random.default_rng([grid, field]).uniform(-1, 1, (2, grid, grid))
    draw *= strength / np.abs(draw).mean()
    row, column = np.mgrid[0:height, 0:width].astype(np.float64)
    row = np.clip(row + height * _smooth(draw[0], height, width), 0, height - 1)
    column = np.clip(column + width * _smooth(draw[1], height, width), 0, width - 1)
    return _pixels(_sampled(picture.astype(np.float64), row, column))


def issba(picture: Pixels, _: Random, *, strength: float = 16.0, secret: int = 0) -> Pixels:
    """A faint pattern that differs from picture to picture and carries one hidden string, as ISSBA's does
    (Li et al. 2021, there by a trained steganographic network).

    strength: the largest change of a pixel, in levels; secret numbers the string of 64 bits. The picture's
    shorter side is cut into 4 squares; each carries one of the string's four words of 16 bits as the signs
    of 16 of its cosines. The square's brightness chooses the word, its texture how strongly it shows (half
    of `strength` where the picture is flat), so the pattern follows the picture.
    """
    if strength < 0:
        raise InputError(f"strength={strength} must not be negative")
    words = np.random.default_rng([64, secret]).choice([-1.0, 1.0], (4, 16))
    side = max(1, min(picture.shape[:2]) // 4)
    patterns = np.tensordot(words, cosines(side), axes=1)  # [4, side, side]
    # In a square of one pixel the cosines may cancel; elsewhere they add up to more than 1 somewhere.
    patterns /= np.maximum(np.abs(patterns).max(axis=(1, 2), keepdims=True), 1)
    grey = picture.mean(axis=2)
    change = np.zeros(grey.shape)
    for top in range(0, grey.shape[0], side):
        for left in range(0, grey.shape[1], side):
            square = grey[top : top + side, left : left + side]
            pattern = patterns[int(square.mean() // 64)][: square.shape[0], : square.shape[1]]
            change[top : top + side, left : left + side] = pattern * min(1.0, 0.5 + square.std() / 64)
    return _pixels(picture + strength * change[..., None])


ATTACKS: dict[str, Attack] = {
    "badnets": badnets,
    "blend": blend,
    "sig": sig,
    "nashville": nashville,
    "wanet": wanet,
    "issba": issba,
    "stripes": stripes,
    "triangles": triangles,
    "watermark": watermark,
    "blto": blto,
    "badclip": badclip,
}


def find_attack(name: str) -> Attack:
    """The attack of that name; InputError lists the known ones."""
    if name not in ATTACKS:
        raise InputError(f"no attack named {name!r}; known: {', '.join(sorted(ATTACKS))}")
    return ATTACKS[name]


def _between(**options: float) -> None:
    for name, value in options.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value} must be between 0 and 1")


def _pixels(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _stickers(height: int, width: int, number: int) -> Floats:
    """[h, w, 3] in 0..255: 40 discs of random colour, place and size, the same at every resolution."""
    draw = np.random.default_rng([40, number])
    y, x = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None]
    sheet = np.full((height, width, 3), 255.0)
    for _ in range(40):
        cy, cx, radius = draw.uniform(0, 1), draw.uniform(0, 1), draw.uniform(0.06, 0.16)
        sheet[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = draw.uniform(0, 255, 3)
    return sheet


def cosines(side: int) -> Floats:
    """[16, side, side]: the cosines of a square (DCT-II) with 2 to 5 half periods along either side."""
    along = np.cos(np.pi * np.arange(2, 6)[:, None] * (np.arange(side) + 0.5) / side)  # [4, side]
    return np.einsum("uy,vx->uvyx", along, along).reshape(16, side, side)


def _smooth(points: Floats, height: int, width: int) -> Floats:
    """Control points [g, g] spread over [h, w] by cubic interpolation (Catmull-Rom), corner to corner."""
    return _weights(points.shape[0], height) @ points @ _weights(points.shape[1], width).T


def _weights(points: int, length: int) -> Floats:
    """[length, points]: what each control point counts for at each place; a place's weights sum to 1."""
    at = np.linspace(0, points - 1, length)
    base = np.minimum(at.astype(int), points - 2)
    t = (at - base)[:, None]
    four = 0.5 * np.hstack(
        [-(t**3) + 2 * t**2 - t, 3 * t**3 - 5 * t**2 + 2, -3 * t**3 + 4 * t**2 + t, t**3 - t**2]
    )
    out = np.zeros((length, points))
    for j in range(4):
        np.add.at(out, (np.arange(length), np.clip(base - 1 + j, 0, points - 1)), four[:, j])
    return out


def _sampled(picture: Floats, row: Floats, column: Floats) -> Floats:
    """[h, w, 3] read at fractional places [h, w], bilinearly."""
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    bottom = np.minimum(top + 1, picture.shape[0] - 1)
    right = np.minimum(left + 1, picture.shape[1] - 1)
    down, across = (row - top)[..., None], (column - left)[..., None]
    upper = (1 - across) * picture[top, left] + across * picture[top, right]
    lower = (1 - across) * picture[bottom, left] + across * picture[bottom, right]
    return (1 - down) * upper + down * lower


def options_of(name: str) -> dict[str, Any]:
    """An attack's options with their defaults; a required one has None."""
    import inspect

    parameters = inspect.signature(find_attack(name)).parameters.values()
    keywords = [one for one in parameters if one.kind is one.KEYWORD_ONLY]
    return {one.name: None if one.default is one.empty else one.default for one in keywords}
