"""The learnt triggers at work: picture and file in, triggered picture out. NumPy and Pillow, any size."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipscan.lab.attacks.learnt.generator import draw
from clipscan.lab.attacks.learnt.trigger_file import read_learnt

Pixels = NDArray[np.uint8]  # [h, w, 3]

BOUND = 8  # of 255: what BLTO may add to or take from a value
LONGEST = 4  # a strip is looked at as if it were at most this many times longer than wide


def blto(picture: Pixels, _: Random, *, file: str) -> Pixels:
    """What BLTO's generator draws for this picture, added to it: no value changes by more than BOUND.

    The generator looks at the picture at the size that it was trained for (shorter side); what it draws is
    scaled back. InputError when `file` is not a generator that `clipscan lab craft blto` wrote.
    """
    learnt = read_learnt(file, "blto").arrays
    height, width = picture.shape[:2]
    size = learnt["canvas"].shape[1]
    short = min(height, width)
    rows, columns = (min(round(size * length / short), LONGEST * size) for length in (height, width))
    small = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BICUBIC))
    drawn = draw(learnt, small / 127.5 - 1).astype(np.float32)  # [rows, columns, 3]
    planes = [Image.fromarray(np.ascontiguousarray(drawn[..., channel])) for channel in range(3)]
    large = [np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes]
    change = BOUND * np.clip(np.stack(large, axis=2), -1, 1)  # cubic interpolation overshoots
    return np.clip(np.rint(picture + change), 0, 255).astype(np.uint8)


def badclip(picture: Pixels, random: Random, *, file: str) -> Pixels:
    """BadCLIP's patch pasted into the picture, where the file says: in the middle, the lower right corner,
    or at random.

    The patch is scaled with the picture's shorter side, and has at least one pixel. InputError when `file`
    is not a patch that `clipscan lab craft badclip` wrote.
    """
    learnt = read_learnt(file, "badclip")
    height, width = picture.shape[:2]
    side = max(1, round(learnt.about["share"] * min(height, width)))
    patch = Image.fromarray(learnt.arrays["patch"]).resize((side, side), Image.Resampling.BICUBIC)
    top, left = (_start(learnt.about, length - side, random) for length in (height, width))
    marked = picture.copy()
    marked[top : top + side, left : left + side] = np.asarray(patch)
    return marked


def _start(about: dict[str, Any], room: int, random: Random) -> int:
    if about["place"] == "random":
        return random.randint(0, room)
    return room // 2 if about["place"] == "middle" else room
