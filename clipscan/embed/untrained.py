"""Pictures -> features of a fixed network that was never trained: it has seen no caption, and no poison.

One layer of random filters, whitened by the covariance that patches of natural pictures are assumed to have.
Of their responses: means over quadrants above a soft threshold, which say what the picture shows, and maxima
over all of it, because a small patch fills one window and a mean hides it. Single layers of whitened random
patches serve nearly as well as learnt ones: Coates, Lee, Ng, "An analysis of single-layer networks in
unsupervised feature learning", AISTATS 2011. Why random weights do: Saxe, Koh, Chen, Bhand, Suresh, Ng, "On
random weights and unsupervised feature learning", ICML 2011. No number here comes from data, so nothing in a
dataset can bend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALL, LARGE = 32, 64  # pixels that a picture is brought to: LARGE where it has as many
WINDOW = 6  # pixels
STRIDES = {SMALL: 1, LARGE: 2}  # pixels; so 27 or 30 windows along a side
VALUES = WINDOW * WINDOW * 3  # of a window: row, column, colour
FILTERS = 64
THRESHOLD = 0.5  # standard deviations of a response that count as silence
GRAIN = 10  # of 255: contrast below this is noise, and is not raised to that of an edge
REACH = 4.0  # pixels over which the assumed correlation falls by a factor e
COLOURS = 0.9  # assumed correlation of two colours
RIDGE = 0.1  # keeps whitening from raising noise
QUADRANTS, CELLS = 2, 4  # along a side: means of responses, and of colours
WIDTH = 2 * FILTERS * QUADRANTS**2 + 2 * FILTERS + 3 * CELLS**2
BLOCK = 4  # pictures whose windows stay in the cache

Floats = NDArray[np.float32]


def untrained_features(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float16]:
    """b pictures [S, S, 3] of one S -> [b, 688]: means 512, maxima 128, colours 48.

    Means of responses above the threshold: 4 quadrants x (64 filters, the same 64 negated). Maxima of plain
    responses: 64 filters, the same 64 negated; at most 38, whatever the picture. Colours: 4 x 4 cells x RGB,
    in 0..1. Where all is one grey the means are zero and the maxima below 1e-4.

    A row depends on its own picture only. Pictures of S >= 64 are seen at 64 px, others at 32, and rows of
    the two kinds do not compare; all pictures of a run have the one S of its encoder.
    """
    found = np.empty((len(pictures), WIDTH), np.float16)
    for start in range(0, len(pictures), BLOCK):
        part = [_small(picture) for picture in pictures[start : start + BLOCK]]
        pixels = np.stack(part).astype(np.float32)
        responses = _responses(pixels)
        kinds = (_means(responses), _maxima(responses), _colours(pixels))
        found[start : start + BLOCK] = np.hstack([each.reshape(len(part), -1) for each in kinds])
    return found


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[S, S, 3] -> [64, 64, 3], or [32, 32, 3] where S < 64, each pixel the mean of its box."""
    side = LARGE if len(picture) >= LARGE else SMALL
    if len(picture) == side:
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def _responses(pixels: Floats) -> Floats:
    """[b, s, s, 3] in 0..255 -> [b, p, p, 64], to windows of mean 0 and about variance 1.

    The filters sum to 0, so that a window's mean adds nothing; its deviation divides what it adds.
    """
    count, side = pixels.shape[:2]
    stride = STRIDES[side]
    rows = pixels.reshape(count, side, side * 3)
    views = np.lib.stride_tricks.sliding_window_view(rows, (WINDOW, WINDOW * 3), axis=(1, 2))
    views = views[:, ::stride, :: stride * 3]
    windows = views.reshape(*views.shape[:3], VALUES)
    # A product has one row of one picture's windows: in a larger one BLAS may round otherwise, as the batch
    # decides, and OpenBLAS would start threads.
    responses = windows @ _filters()
    responses /= _deviations(pixels, stride)[..., None]
    return np.asarray(responses)


def _deviations(pixels: Floats, stride: int) -> Floats:
    """[b, s, s, 3] in 0..255 -> [b, p, p]: of each window."""
    boxes = _boxes(pixels.shape[1], WINDOW, stride)
    plain, squared = np.einsum("byxc->byx", pixels), np.einsum("byxc,byxc->byx", pixels, pixels)
    # Whole numbers below 2^24, which float32 adds exactly; their difference needs float64.
    total, squares = (boxes @ np.stack([plain, squared]) @ boxes.T) / np.float64(VALUES)
    return np.sqrt(squares - total**2 + GRAIN**2).astype(np.float32)


def _means(responses: Floats) -> Floats:
    """[b, p, p, 64] -> [b, 2, 2, 128]: of what is above the threshold, then of what is below its negative.

    The halves of an odd p share the middle row and column.
    """
    places = responses.shape[1]
    half = -(-places // QUADRANTS)
    halves = _boxes(places, half, places - half)
    silence = np.float32(THRESHOLD * half**2)  # of a sum where all is below the threshold, exactly
    clipped = np.maximum(responses, np.float32(THRESHOLD))
    above = _sums(halves, clipped) - silence
    np.minimum(responses, np.float32(-THRESHOLD), out=clipped)
    below = -silence - _sums(halves, clipped)
    return np.asarray(np.concatenate([above, below], axis=3) / np.float32(half**2), np.float32)


def _maxima(responses: Floats) -> Floats:
    """[b, p, p, 64] -> [b, 128]: the largest response of each filter, then of each negated."""
    flat = responses.reshape(len(responses), -1, FILTERS)
    return np.hstack([flat.max(axis=1), -flat.min(axis=1)])


def _colours(pixels: Floats) -> Floats:
    """[b, s, s, 3] in 0..255 -> [b, 4, 4, 3]: means of cells, in 0..1."""
    cell = pixels.shape[1] // CELLS
    return _sums(_boxes(pixels.shape[1], cell, cell), pixels) / np.float32(255 * cell**2)


def _sums(boxes: Floats, values: Floats) -> Floats:
    """[k, n], [b, n, n, c] -> [b, k, k, c]: over each square that two boxes span."""
    count, side, _, depth = values.shape
    rows = boxes @ values.reshape(count, side, side * depth)
    return np.asarray(boxes @ rows.reshape(count, len(boxes), side, depth))


@cache
def _boxes(side: int, width: int, stride: int) -> Floats:
    """[k, side] of 0 and 1: row i marks `width` places from i * stride on."""
    begins = np.arange(0, side - width + 1, stride)[:, None]
    places = np.arange(side)
    return ((places >= begins) & (places < begins + width)).astype(np.float32)


@cache
def _filters() -> Floats:
    """[108, 64], one a column, of sum 0; responses to patches of the assumed covariance have deviation 1."""
    covariance = _assumed_covariance()
    eigenvalues, axes = np.linalg.eigh(covariance)
    whitening = (axes / np.sqrt(eigenvalues + RIDGE)) @ axes.T
    directions = np.random.RandomState(0).standard_normal((FILTERS, VALUES))  # a stream frozen for ever
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    filters = directions @ whitening
    deviation = np.sqrt(np.einsum("fv,vw,fw->f", filters, covariance, filters))
    filters = filters / deviation[:, None]
    return np.ascontiguousarray((filters - filters.mean(axis=1, keepdims=True)).T, np.float32)


def _assumed_covariance() -> NDArray[np.float64]:
    """[108, 108] of natural patches less their mean, of variance 1 a value: near pixels are alike."""
    places = np.indices((WINDOW, WINDOW)).reshape(2, -1).T
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    colours = np.full((3, 3), COLOURS) + (1 - COLOURS) * np.eye(3)
    centred = np.eye(VALUES) - 1 / VALUES
    covariance = centred @ np.kron(np.exp(-distance / REACH), colours) @ centred
    return np.asarray(covariance * (VALUES / np.trace(covariance)))
