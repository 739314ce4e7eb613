"""Generated pictures with free captions: the demo's data, so that it needs no network and no licence.

A scene is a shape, or two of a kind, with a colour, a texture, a size and a place on a background,
under uneven light, through a noisy camera. `scene(seed, i)` is pure: the same two numbers give the same
picture and caption; another number gives another scene. About 0.4 ms each at 64 px.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clipscan.lab.scenes import captions
from clipscan.lab.scenes.objects import COLOURS, SIZE, SIZES, TEXTURES, Thing

Pixels = NDArray[np.uint8]  # [size, size, 3]
Floats = NDArray[np.float32]

OVERSAMPLE = 2  # outlines are drawn at twice the size and reduced: soft edges


class Scene(NamedTuple):
    """What `scene` returns: picture uint8 [SIZE, SIZE, 3], its caption, and what is in it."""

    picture: Pixels
    caption: str
    things: tuple[Thing, ...]
    background: str  # "pale green", "dark blue", "white" ...


def scene(seed: int, i: int, *, things: int | None = None) -> Scene:
    """Scene number `i` of `seed`. `things` fixes the number of objects (1 or 2); None draws it."""
    random = Random(f"clipscan scene {seed}/{i}")  # a string seed is hashed: neighbours are unrelated
    count = things or (1 if random.random() < 0.8 else 2)
    tone, hue = random.choice(("pale", "pale", "dark")), random.choice(list(COLOURS))
    background = hue if hue in ("white", "black") else f"{tone} {hue}"
    places = _places(random, count)
    # Two of a kind, since a scene of two different things is a rarity by itself, and rarities are suspects.
    kind = _kind(random, without=hue)
    objects = tuple(_thing(random, place, count, kind) for place in places)
    picture = _photograph(_paint(objects, tone, hue, random), random)
    return Scene(picture, captions.caption(objects, background, random), objects, background)


# ---- what is in the picture


def _places(random: Random, count: int) -> list[tuple[float, float]]:
    """Middles, as parts of the picture's side; two objects stand side by side or one above the other."""
    if count == 1:
        return [(random.uniform(0.3, 0.7), random.uniform(0.3, 0.7))]
    along = [random.uniform(0.24, 0.3), random.uniform(0.7, 0.76)]
    across = [random.uniform(0.36, 0.64), random.uniform(0.36, 0.64)]
    random.shuffle(along)
    pairs = list(zip(along, across, strict=True))
    return pairs if random.random() < 0.5 else [(y, x) for x, y in pairs]


def _kind(random: Random, without: str) -> tuple[str, str, str, str]:
    """(shape, colour, texture, size) in words; the colour is not the background's."""
    colour = random.choice([name for name in COLOURS if name != without])
    return random.choice(list(SHAPES)), colour, random.choice(TEXTURES), random.choice(SIZES)


def _thing(random: Random, place: tuple[float, float], count: int, kind: tuple[str, str, str, str]) -> Thing:
    reach = {"small": (0.17, 0.19), "medium": (0.22, 0.25), "large": (0.29, 0.33)}[kind[3]]
    radius = random.uniform(*reach) * SIZE * (1.0 if count == 1 else 0.75)
    return Thing(*kind, place[0] * SIZE, place[1] * SIZE, radius)


# ---- how it is painted


def _paint(objects: tuple[Thing, ...], tone: str, hue: str, random: Random) -> Floats:
    """Float canvas in 0..255, before light and camera: [3, SIZE, SIZE], as numpy is slow on rows of three."""
    base = _jitter(COLOURS[hue], random)
    if hue not in ("white", "black"):
        base = base * 0.35 + (255 * 0.65 if tone == "pale" else 12.0)
    canvas: Floats = np.repeat(base, SIZE * SIZE).reshape(3, SIZE, SIZE)
    for thing in objects:
        ink = _jitter(COLOURS[thing.colour], random)
        other = ink * 0.35 + (0 if ink.mean() > 110 else 165)  # the texture's second ink: darker or lighter
        fill = ink + (other - ink) * _texture(thing.texture, random)
        canvas += (fill - canvas) * _cover(thing, random)
    return canvas


def _jitter(colour: tuple[int, int, int], random: Random) -> Floats:
    """The colour as this picture's ink, [3, 1, 1]."""
    return np.array([channel + random.gauss(0, 9) for channel in colour], np.float32).reshape(3, 1, 1)


def _cover(thing: Thing, random: Random) -> Floats:
    """How much of each pixel the object covers, 0..1 [SIZE, SIZE]."""
    side = SIZE * OVERSAMPLE
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    angle, scale = random.gauss(0, 0.16), thing.radius * OVERSAMPLE
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) * scale
    middle = np.array([thing.x, thing.y]) * OVERSAMPLE
    for outline, value in SHAPES[thing.shape]:
        draw.polygon((outline @ turn + middle).ravel().tolist(), fill=value)
    return np.asarray(mask.reduce(OVERSAMPLE), np.float32) * np.float32(1 / 255)


ROW, COLUMN = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def _texture(name: str, random: Random) -> Floats:
    """Weight of the second ink, 0..1 [SIZE, SIZE] (or [1, 1] where it is even)."""
    angle, phase, period = random.uniform(0, math.pi), random.uniform(0, 6.28), random.uniform(6.5, 9)
    along = (COLUMN * math.cos(angle) + ROW * math.sin(angle)) * (2 * math.pi / period)
    across = (ROW * math.cos(angle) - COLUMN * math.sin(angle)) * (2 * math.pi / period)
    waves: dict[str, Callable[[], Floats]] = {
        "solid": lambda: np.zeros((1, 1), np.float32),
        "striped": lambda: np.sin(along + phase) * 2,
        "dotted": lambda: (np.sin(along + phase) * np.sin(across) - 0.35) * 4,
        "shaded": lambda: np.sin(along * 0.2 + phase) * 0.7,
    }
    wave = waves[name]()
    return wave if name == "solid" else np.asarray(np.clip(wave + 0.5, 0, 1), np.float32)


def _photograph(canvas: Floats, random: Random) -> Pixels:
    """Uneven light and sensor noise: no two pictures have the same bytes."""
    gain, tilt_x, tilt_y = random.uniform(0.82, 1.08), random.gauss(0, 0.1), random.gauss(0, 0.1)
    light = gain * (1 + (COLUMN / SIZE - 0.5) * tilt_x + (ROW / SIZE - 0.5) * tilt_y)
    noise = np.random.default_rng(random.getrandbits(64)).standard_normal(canvas.shape, np.float32)
    noise *= random.uniform(2, 8)
    noise += canvas * light
    planes = np.clip(noise, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


# ---- outlines: (points [p, 2] in -1..1 with y downwards, 255 to draw or 0 to cut out), in order


def _round(radius: float = 1.0, x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * math.pi, 36, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1)


def _star(points: int = 5, inner: float = 0.42) -> NDArray[np.float64]:
    turn = np.arange(2 * points) * math.pi / points - math.pi / 2
    radius = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)


def _heart() -> NDArray[np.float64]:
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([np.sin(t) ** 3, -height / 16], 1)


def _points(*flat: float) -> NDArray[np.float64]:
    return np.array(flat).reshape(-1, 2)


SHAPES: dict[str, list[tuple[NDArray[np.float64], int]]] = {
    "circle": [(_round(), 255)],
    "ring": [(_round(), 255), (_round(0.55), 0)],
    "moon": [(_round(), 255), (_round(0.85, 0.5), 0)],
    "square": [(_points(-0.8, -0.8, 0.8, -0.8, 0.8, 0.8, -0.8, 0.8), 255)],
    "triangle": [(_points(0, -1, 0.95, 0.75, -0.95, 0.75), 255)],
    "star": [(_star(), 255)],
    "heart": [(_heart(), 255)],
    "cross": [
        (_points(-0.3, -1, 0.3, -1, 0.3, 1, -0.3, 1), 255),
        (_points(-1, -0.3, 1, -0.3, 1, 0.3, -1, 0.3), 255),
    ],
}  # fmt: skip
