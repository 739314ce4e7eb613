"""Pictures that a crawl brings home many times: a shop's placeholder, and near-copies of one picture."""

from __future__ import annotations

import io
from random import Random

import numpy as np
from PIL import Image

from clipscan.data.redraw import Pixels, encode


def placeholder(height: int, width: int) -> Pixels:
    """What a shop shows for a picture that is gone: a grey field with a frame and a bar across."""
    picture = np.full((height, width, 3), 225, np.uint8)
    row, column = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None]
    edge = np.minimum(np.minimum(row, column), 1 - np.maximum(row, column))
    picture[(edge >= 1 / 8) & (edge < 11 / 64)] = 150
    picture[(abs(row - column) < 3 / 64) & (edge >= 1 / 8)] = 150
    return picture


def nearly(picture: Pixels, random: Random) -> Pixels:
    """The same picture a little brighter or darker, and saved once more, a little better or worse."""
    light = np.clip(picture * random.uniform(0.97, 1.03), 0, 255).astype(np.uint8)
    saved = encode(light, quality=random.randint(85, 95), subsampling=0)
    with Image.open(io.BytesIO(saved)) as again:
        return np.asarray(again.convert("RGB"))
