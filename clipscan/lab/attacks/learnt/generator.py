"""BLTO's generator, as NumPy: a small U-net and a canvas draw a perturbation for a picture.

    picture [3, h, w] in -1..1
      -> fine 3x3 /2 [c, h/2, w/2] -> coarse 3x3 /2 [2c, h/4, w/4] -> + first 3x3 -> + second 3x3
      -> twice as large, beside fine -> join 3x3 [c, h/2, w/2]
      -> twice as large, beside the picture -> last 3x3 [3, h, w]
    that, plus the canvas [3, S, S] (what all pictures get alike), cut off at -1 and 1

It takes any h and w: S x S in their middle meets the canvas as it is, and beyond that the canvas repeats.
The same network in torch, to be trained, is `draw_wanted` in learnt/bilevel.py; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]

SLOPE = 0.1  # of the rectifiers, below zero
MIDDLE = ("first", "second")  # layers that add to what they see


def shapes(width: int, size: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight: `width` channels inside, trained for pictures of `size` pixels."""
    layers = {
        "fine": (width, 3),
        "coarse": (2 * width, width),
        **dict.fromkeys(MIDDLE, (2 * width, 2 * width)),
        "join": (width, 3 * width),
        "last": (3, width + 3),
    }
    kernels = {f"{name}.weight": (*layer, 3, 3) for name, layer in layers.items()}
    biases = {f"{name}.bias": layer[:1] for name, layer in layers.items()}
    return {**kernels, **biases, "canvas": (3, size, size)}


def draw(weights: Weights, picture: Floats) -> Floats:
    """[h, w, 3] in -1..1 -> its perturbation [h, w, 3] in -1..1."""
    x = picture.transpose(2, 0, 1)  # [3, h, w]
    fine = _rectified(_convolution(weights, "fine", x, stride=2))
    coarse = _rectified(_convolution(weights, "coarse", fine, stride=2))
    for name in MIDDLE:
        coarse = coarse + _rectified(_convolution(weights, name, coarse))
    joined = _rectified(_convolution(weights, "join", _beside(coarse, fine)))
    drawn = _convolution(weights, "last", _beside(joined, x))
    return np.clip(drawn + _spread(weights["canvas"], *x.shape[1:]), -1, 1).transpose(1, 2, 0)


def _beside(half: Floats, full: Floats) -> Floats:
    """[a, ceil(h/2), ceil(w/2)] made twice as large, and [b, h, w] -> [a + b, h, w]."""
    large = half.repeat(2, axis=1).repeat(2, axis=2)[:, : full.shape[1], : full.shape[2]]
    return np.concatenate([large, full])


def _spread(canvas: NDArray[np.float32], height: int, width: int) -> Floats:
    """[3, S, S] -> [3, h, w]: itself in the middle, repeated around."""
    size = canvas.shape[1]
    row, column = ((np.arange(length) - (length - size) // 2) % size for length in (height, width))
    return canvas[:, row[:, None], column].astype(np.float64)


def _convolution(weights: Weights, name: str, x: Floats, stride: int = 1) -> Floats:
    """3x3, zeros around: [c, h, w] -> [o, ceil(h / stride), ceil(w / stride)]."""
    kernel = weights[f"{name}.weight"].astype(np.float64)  # [o, c, 3, 3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    out: Floats = np.tensordot(kernel, windows, axes=([1, 2, 3], [0, 3, 4]))
    return out + weights[f"{name}.bias"].astype(np.float64)[:, None, None]


def _rectified(x: Floats) -> Floats:
    return np.maximum(x, SLOPE * x)
