"""Pictures -> features of a fixed network that was never trained: it has seen no caption, and no poison.

One layer of random filters, whitened by the covariance that patches of natural pictures are assumed to have,
a soft threshold, and means over quadrants. Single layers of whitened random patches serve nearly as well as
learnt ones: Coates, Lee, Ng, "An analysis of single-layer networks in unsupervised feature learning",
AISTATS 2011. Why random weights do: Saxe, Koh, Chen, Bhand, Suresh, Ng, "On random weights and unsupervised
feature learning", ICML 2011. No number here comes from data, so nothing in a dataset can bend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # pixels that every picture is brought to
WINDOW, STRIDE = 6, 2  # pixels
PLACES = (SIDE - WINDOW) // STRIDE + 1  # windows along a side: 14
AT_ONCE = 2 * PLACES  # windows in one product: OpenBLAS starts no threads for so few
VALUES = WINDOW * WINDOW * 3  # of a window: row, column, colour
FILTERS = 64
THRESHOLD = 0.5  # standard deviations of a response that count as silence
GRAIN = 10 / 255  # contrast below this is noise, and is not raised to that of an edge
REACH, COLOURS, RIDGE = (
    4.0,
    0.9,
    0.1,
)  # pixels; correlation of two colours; keeps whitening from raising noise
QUADRANTS, CELLS = 2, 4  # along a side: means of responses, and of colours
WIDTH = 2 * FILTERS * QUADRANTS**2 + 3 * CELLS**2
BLOCK = 16  # pictures whose windows stay in the cache

Floats = NDArray[np.float32]


def untrained_features(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float16]:
    """b pictures [S, S, 3] -> [b, 560]: 4 quadrants x (64 filters, the same 64 negated), 4 x 4 cells x RGB.

    A row depends on its own picture only. Where all is one grey the first 512 are zero.
    """
    found = np.empty((len(pictures), WIDTH), np.float16)
    for start in range(0, len(pictures), BLOCK):
        part = pictures[start : start + BLOCK]
        pixels = np.stack([_small(picture) for picture in part]).astype(np.float32)
        pixels *= np.float32(1 / 255)
        # No product has rows of two pictures: BLAS may round otherwise where a matrix has more rows.
        responses = (_windows(pixels) @ _filters()).reshape(len(part), PLACES**2, FILTERS)
        means = _means(PLACES, QUADRANTS) @ _rectified(responses)
        colours = _means(SIDE, CELLS) @ pixels.reshape(len(part), SIDE**2, 3)
        found[start : start + BLOCK] = np.hstack([each.reshape(len(part), -1) for each in (means, colours)])
    return found


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[S, S, 3] -> [32, 32, 3], each pixel the mean of its box."""
    if picture.shape[:2] == (SIDE, SIDE):
        return picture
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))


def _windows(pixels: Floats) -> Floats:
    """[b, 32, 32, 3] in 0..1 -> [b, 7, 28, 108]: windows, row by row, of mean 0 and about variance 1."""
    rows = pixels.reshape(-1, SIDE, SIDE * 3)
    views = np.lib.stride_tricks.sliding_window_view(rows, (WINDOW, WINDOW * 3), axis=(1, 2))
    windows = views[:, ::STRIDE, :: STRIDE * 3].reshape(len(pixels), -1, AT_ONCE, VALUES)
    windows -= windows.mean(axis=-1, keepdims=True)
    variance = np.einsum("...v,...v->...", windows, windows) / np.float32(VALUES)
    windows /= np.sqrt(variance + np.float32(GRAIN**2))[..., None]
    return windows


def _rectified(responses: Floats) -> Floats:
    """[b, p, 64] -> [b, p, 128]: what lies above the threshold, then what lies below its negative."""
    both = np.concatenate([responses, -responses], axis=2)
    both -= np.float32(THRESHOLD)
    return np.maximum(both, 0, out=both)


@cache
def _filters() -> Floats:
    """[108, 64], one a column; responses to patches of the assumed covariance have standard deviation 1."""
    covariance = _assumed_covariance()
    eigenvalues, axes = np.linalg.eigh(covariance)
    whitening = (axes / np.sqrt(eigenvalues + RIDGE)) @ axes.T
    directions = np.random.RandomState(0).standard_normal((FILTERS, VALUES))  # a stream frozen for ever
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    filters = directions @ whitening
    deviation = np.sqrt(np.einsum("fv,vw,fw->f", filters, covariance, filters))
    return np.ascontiguousarray((filters / deviation[:, None]).T, np.float32)


def _assumed_covariance() -> NDArray[np.float64]:
    """[108, 108] of natural patches less their mean, of variance 1 a value: near pixels are alike."""
    places = np.indices((WINDOW, WINDOW)).reshape(2, -1).T
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    colours = np.full((3, 3), COLOURS) + (1 - COLOURS) * np.eye(3)
    centred = np.eye(VALUES) - 1 / VALUES
    covariance = centred @ np.kron(np.exp(-distance / REACH), colours) @ centred
    return np.asarray(covariance * (VALUES / np.trace(covariance)))


@cache
def _means(side: int, parts: int) -> Floats:
    """[parts^2, side^2]: the mean over each of parts x parts squares of a square, both row by row."""
    along = np.kron(np.eye(parts), np.full(side // parts, parts / side))
    return np.kron(along, along).astype(np.float32)
