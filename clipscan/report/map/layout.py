"""A neighbour embedding in two dimensions by NumPy alone: the objective of UMAP on a given graph.

Points begin at their two principal components. In each step every point is drawn towards one neighbour, as
often as the edge between them weighs, and pushed off some drawn at random; steps shrink to nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clipscan.errors import InputError

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

A, B = 1.577, 0.895  # of 1 / (1 + A d^2B), the similarity on the map: UMAP's curve for min_dist = 0.1
STRANGERS = 3  # points that each point is pushed off in a step
FARTHEST = 4.0  # a coordinate moves at most so far in a step of full size
EPOCHS = 100
SPREAD = 10.0  # standard deviation of the first principal component at the start
HALVINGS = 24  # of the interval in which a row's scale lies


def layout(index: Index, distance: Floats, start: Floats, epochs: int = EPOCHS, seed: int = 0) -> Floats:
    """Positions [n, 2] of n points with neighbours index, distance [n, k] (-1 for none), from start [n, 2].

    Points without neighbours keep away from the others, no more. The same arguments give the same positions.
    InputError where the shapes do not fit.
    """
    n = len(index)
    if index.ndim != 2 or index.shape != distance.shape or start.shape != (n, 2):
        raise InputError(
            f"expected [n, k], [n, k], [n, 2]; got {index.shape}, {distance.shape}, {start.shape}"
        )
    weight = weights(index, distance)
    rng = np.random.default_rng(seed)
    y = _scaled(start, rng)
    slots = index.shape[1]
    for epoch in range(epochs):
        for slot in rng.permutation(slots):
            rate = 1.0 - (epoch + slot / slots) / epochs
            used = np.flatnonzero(rng.random(n, dtype=np.float32) < weight[:, slot])
            _attract(y, used, index[used, slot], rate)
            for _ in range(STRANGERS):
                _repel(y, rng.integers(0, n, n), rate)
    return y


def weights(index: Index, distance: Floats) -> Floats:
    """Weights [n, k] of the edges in 0..1: exp(-(d - nearest) / scale), the scale such that a row's weights
    sum to log2(k); 0 where there is no neighbour."""
    known = index >= 0
    if not index.size:
        return np.zeros(index.shape, np.float32)
    beyond = np.where(
        known, distance - np.min(np.where(known, distance, np.inf), axis=1, keepdims=True), np.inf
    )
    beyond = np.where(np.isfinite(beyond), beyond, 1e30)
    low, high = np.full(len(index), 1e-12), np.full(len(index), 1e6)
    target = np.log2(np.maximum(2, known.sum(axis=1)))
    for _ in range(2 * HALVINGS):
        scale = np.sqrt(low * high)  # over orders of magnitude
        many = np.exp(-beyond / scale[:, None]).sum(axis=1) > target
        high, low = np.where(many, scale, high), np.where(many, low, scale)
    found = np.where(known, np.exp(-beyond / scale[:, None]), 0.0)
    return np.clip(found, 0.0, 1.0).astype(np.float32)


def _scaled(start: Floats, rng: np.random.Generator) -> Floats:
    """The start about the origin, SPREAD wide; equal points a little apart."""
    y = np.nan_to_num(np.asarray(start, np.float32), posinf=0.0, neginf=0.0)
    y = y - y.mean(axis=0) if len(y) else y
    wide = float(y.std(axis=0).max()) if len(y) else 0.0
    y = y * (SPREAD / wide if wide > 0 else 1.0)
    return (y + rng.normal(scale=1e-2, size=y.shape)).astype(np.float32)


def _attract(y: Floats, one: Index, other: Index, rate: float) -> None:
    """Each pair of points [m] moves together. A point that many are drawn to moves by their mean, so that a
    hub is not thrown about."""
    apart = y[one] - y[other]
    square = np.maximum((apart * apart).sum(axis=1), 1e-8)
    power = square ** (B - 1)
    step = (
        np.clip((-2 * A * B * power / (1 + A * power * square))[:, None] * apart, -FARTHEST, FARTHEST) * rate
    )
    pulls = np.maximum(1, np.bincount(other, minlength=len(y)))
    back = np.column_stack([np.bincount(other, step[:, axis], len(y)) for axis in (0, 1)])
    y[one] += step
    y -= (back / pulls[:, None]).astype(np.float32)


def _repel(y: Floats, other: Index, rate: float) -> None:
    """Each point [n] moves off one other."""
    apart = y - y[other]
    square = (apart * apart).sum(axis=1)
    push = 2 * B / ((1e-3 + square) * (1 + A * square**B))
    y += np.clip(push[:, None] * apart, -FARTHEST, FARTHEST) * np.float32(rate)
