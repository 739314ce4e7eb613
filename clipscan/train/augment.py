"""Random crop and flip of a whole batch of pixels at once, on whatever device it lies."""

from __future__ import annotations

import torch
from torch import Tensor

PAD = 10  # a picture of S pixels is shifted by up to S / PAD


def shift_and_flip(pixels: Tensor, generator: torch.Generator, *, flip: bool = True) -> Tensor:
    """uint8 [b, S, S, 3] -> the same shape: each picture shifted by up to S/10 pixels, mirrored or not.

    What a shift uncovers repeats the border. One gather does all. `generator` lives on the CPU, so that
    a seed means the same on every device.
    """
    count, size = pixels.shape[:2]
    reach = size // PAD
    shift = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < (0.5 if flip else 0.0)
    line = torch.arange(size)
    row = (line + shift[0]).clamp(0, size - 1)  # [b, S]
    column = (line + shift[1]).clamp(0, size - 1)
    column = torch.where(mirrored, column.flip(1), column)
    cell = torch.arange(count)[:, None, None] * size * size + row[:, :, None] * size + column[:, None, :]
    cell = cell.reshape(-1).to(pixels.device)
    return pixels.reshape(-1, 3).index_select(0, cell).reshape(pixels.shape)
