"""A triggered picture as a victim's training sees it: saved as a file, shifted, mirrored.

What a trigger cannot carry through this, no victim learns: the JPEG of a small photograph (quality 75,
colours at half the resolution) takes most of a change of 8/255 that was made without it in mind.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipscan.data.redraw import encode
from clipscan.train.augment import shift_and_flip

QUALITY = (50, 95)  # of the JPEGs, from and to
SAVED = 0.5  # so many batches go through JPEG; the others are as sharp as they are


def as_seen(pixels: Tensor, draw: np.random.Generator, shifts: torch.Generator) -> Tensor:
    """float [b, S, S, 3] in 0..255 -> the same shape; gradients pass rounding and JPEG unchanged."""
    rounded = pixels.detach().round()
    if draw.random() < SAVED:
        files = saved(rounded.to("cpu", torch.uint8).numpy(), int(draw.integers(QUALITY[0], QUALITY[1] + 1)))
        rounded = torch.from_numpy(files).to(pixels)
    return shift_and_flip(pixels + (rounded - pixels.detach()), shifts)


def saved(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """[b, S, S, 3] after having been JPEG files of that quality."""
    files = (encode(picture, "JPEG", quality=quality) for picture in pixels)
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
