"""What the released detectors compute, bugs included: `compat="detect-clip"`, for comparison only.

Huang et al., Detecting Backdoor Samples in CLIP, ICLR 2025; the behaviour of the authors' repository
HanxunH/Detect-CLIP-Backdoor-Samples at ff2399a, written anew. Every image of a batch is scored against
its own batch: the other images and, where captions are given, the captions of the other images.
Features are not normalised, distances are Euclidean, in float32.

How that differs from the formulas that clipscan uses:

1. Wrong rows. An image's distances lose its own column (and its own caption's). A neighbour's position in
   what is left is then read as a row of tables that lost nothing: images behind the scored one are read
   one row too early, captions one or two. slof and dao therefore depend on the order of the batch.
2. k + 1 against k. The scored image's radius is the distance to its (k+1)-th other row, that of a
   reference row to its k-th: there, the zero to itself takes the first place. kdist is the (k+1)-th too.
3. Flat LIDs. The LID of a reference row averages over that zero and k - 1 neighbours. A ratio r enters as
   ln(r + 1e-4), so the zero adds ln(1e-4) = -9.21 and no LID passes k / 9.21 (1.74 for k = 16): dao is
   nearly a scaled log of slof. dao is the mean of LID * ln(ratio), not of ratio ** LID.
4. Zero radii. A row with k copies has radius 0; every image that reads one gets 1000 from slof and dao (inf,
   or nan for 0/0), because of 1 also unrelated images. An image with k + 1 copies that reads none gets 0.
5. lid is NaN where an image has k + 1 copies (fewer add ln(1e-4) each), and about -10,000 where its k + 1
   nearest are equally far; nothing mends either.

The released script runs its encoder under autocast: give float16 rows to see what its distances saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.errors import InputError
from clipscan.scores.forest import grow, iforest

K = {"kdist": 16, "lid": 64, "slof": 16, "dao": 16}  # what the released script passes
METHODS = (*K, "iforest")
CHUNK = 256  # table rows whose distances exist at once: a few arrays of 8 MB for 2,048 pairs
CLOSE = 1e-6  # below this share of |x|^2 + |y|^2 the expanded form has lost what float32 can show
DIRECT = 4096  # close pairs subtracted at once


class _Nearest(NamedTuple):
    """One batch: b images, m reference rows (images, then captions), the k + 1 nearest of each."""

    own: NDArray[np.float32]  # [b, k + 1] ascending, from an image to every row but itself and its caption
    read: NDArray[np.intp]  # [b, k + 1] the table row that the released code reads for each: see 1
    table: NDArray[np.float32]  # [m, k + 1] ascending, from a reference row to all of them: see 2


def detect_clip(
    image: NDArray[Any],
    text: NDArray[Any] | None = None,
    *,
    method: str | Sequence[str] = "dao",
    batches: int | Sequence[NDArray[np.integer[Any]]] = 2048,
    k: int | None = None,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Score image rows [n, d] (finite; text [n, d] beside them) as the released code would, per method [n].

    method: kdist, lid, slof, dao, iforest, or several of them; higher = more suspicious, also for lid,
    as released. k: for all of them; left out, 16 and for lid 64, as in the released script.
    batches: rows per batch, taken in row order, or one array of row numbers per batch, whose order
    counts. With several GPUs a batch is what they gather: the rows of rank 0, then those of rank 1, ...
    A row in no batch stays NaN; a row in several keeps the score from the last one, as in the script.

    Among equal distances the smaller position comes first (the released code leaves it to torch.sort).
    iforest is a forest of 100 trees per batch, on images and captions: ours, seeded, where the script
    leaves scikit-learn's unseeded and negates it later, so it agrees in distribution only.
    Memory is that of one batch: its rows in float64, CHUNK rows of distances, k + 1 numbers per row.

    Raises InputError: unknown method, k < 1, text of another shape, a row number out of range, or a
    batch too small to have k + 1 neighbours (there the released script stops with an index error).
    """
    methods = [method] if isinstance(method, str) else list(method)
    depth = {name: K[name] if k is None else k for name in methods if name in K}
    rounds = _rounds(batches, len(image))
    _check(image, text, methods, depth, rounds)
    scores = {name: np.full(len(image), np.nan) for name in methods}
    for number, batch in enumerate(rounds):
        pictures = np.asarray(image[batch], np.float32)
        rows = pictures if text is None else np.concatenate([pictures, np.asarray(text[batch], np.float32)])
        if depth:
            nearest = _nearest(rows, len(batch), max(depth.values()))
        for name in methods:
            if name == "iforest":
                scores[name][batch] = iforest(pictures, grow(rows, seed=(seed, number)))
            else:
                scores[name][batch] = LOCAL[name](nearest, depth[name])
    return scores


def _rounds(batches: int | Sequence[NDArray[np.integer[Any]]], n: int) -> list[NDArray[np.intp]]:
    """The row numbers of every batch."""
    if isinstance(batches, int):
        if batches < 1:
            raise InputError(f"a batch needs at least one row, got batches={batches}")
        return [np.arange(begin, min(begin + batches, n)) for begin in range(0, n, batches)]
    return [np.asarray(batch, np.intp) for batch in batches]


def _check(
    image: NDArray[Any],
    text: NDArray[Any] | None,
    methods: list[str],
    depth: dict[str, int],
    rounds: list[NDArray[np.intp]],
) -> None:
    if unknown := set(methods) - set(METHODS):
        raise InputError(f"detect-clip has no detector {sorted(unknown)}; it has {', '.join(METHODS)}")
    if text is not None and text.shape != image.shape:
        raise InputError(f"text must match image row by row, got {text.shape} beside {image.shape}")
    if any(k < 1 for k in depth.values()):
        raise InputError(f"k must be at least 1, got {min(depth.values())}")
    for number, batch in enumerate(rounds):
        if np.any(missing := (batch < 0) | (batch >= len(image))):
            raise InputError(f"batch {number} names row {batch[missing][0]}, but image has {len(image)} rows")
        others = (len(batch) - 1) * (1 if text is None else 2)
        if depth and others <= (k := max(depth.values())):
            raise InputError(
                f"batch {number} of {len(batch)} rows has {others} neighbours for each, k={k} needs {k + 1}; "
                "choose another batch size, leave these rows out, or lower k"
            )


def _nearest(rows: NDArray[np.float32], b: int, k: int) -> _Nearest:
    """The distances and (mis)read rows of one batch; rows [m, d] are b images, then b captions or none."""
    m = len(rows)
    exact = rows.astype(np.float64)
    square = np.einsum("ij,ij->i", exact, exact)
    own = np.empty((b, k + 1), np.float32)
    read = np.empty((b, k + 1), np.intp)
    table = np.empty((m, k + 1), np.float32)
    for begin in range(0, m, CHUNK):
        distance = _distance(exact, square, begin)  # [c, m]
        table[begin : begin + CHUNK] = np.sort(np.partition(distance, k, axis=1)[:, : k + 1], axis=1)
        if begin < b:
            self = np.arange(begin, min(begin + CHUNK, b))[:, None]
            others = distance[: len(self)]
            np.put_along_axis(others, self, np.inf, axis=1)
            if m > b:
                np.put_along_axis(others, b + self, np.inf, axis=1)
            own[self[:, 0]], column = _smallest(others, k + 1)
            # Bug 1: the position after deletion, where the column itself would be right.
            read[self[:, 0]] = column - (column > self) - (column > b + self)
    return _Nearest(own, read, table)


def _distance(exact: NDArray[np.float64], square: NDArray[np.float64], begin: int) -> NDArray[np.float32]:
    """Distances from CHUNK rows to all rows [c, m]: float64 within, equal rows exactly 0, rounded once."""
    chunk = exact[begin : begin + CHUNK]
    scale = square[begin : begin + CHUNK, None] + square
    squared = scale - 2.0 * (chunk @ exact.T)
    # Cancellation would turn the exact zeros of copies, which decide 4 and 5, into small noise.
    close_i, close_j = np.nonzero(squared <= CLOSE * scale)
    for at in range(0, len(close_i), DIRECT):
        i, j = close_i[at : at + DIRECT], close_j[at : at + DIRECT]
        difference = chunk[i] - exact[j]
        squared[i, j] = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(squared).astype(np.float32)


def _smallest(distance: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The `count` smallest of each row, ascending by (distance, column), and their columns."""
    # The bits of non-negative floats sort like the floats; the column below them settles ties.
    key = distance.view(np.uint32).astype(np.uint64) << np.uint64(32)
    key |= np.arange(distance.shape[1], dtype=np.uint64)
    key = np.sort(np.partition(key, count - 1, axis=1)[:, :count], axis=1)
    return (key >> np.uint64(32)).astype(np.uint32).view(np.float32), (key & 0xFFFFFFFF).astype(np.intp)


def _kdist(nearest: _Nearest, k: int) -> NDArray[np.float32]:
    return nearest.own[:, k]


def _lid(nearest: _Nearest, k: int) -> NDArray[np.float32]:
    return _flat_lid(nearest.own, k)


def _slof(nearest: _Nearest, k: int) -> NDArray[np.float32]:
    return _mended(_ratio(nearest, k))


def _dao(nearest: _Nearest, k: int) -> NDArray[np.float32]:
    lid = _flat_lid(nearest.table, k)[nearest.read[:, :k]]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _mended(lid * np.log(_ratio(nearest, k)))


def _ratio(nearest: _Nearest, k: int) -> NDArray[np.float32]:
    """Own radius over that of each row read [b, k]: the (k+1)-th distance over a k-th."""
    radius = nearest.table[:, k]
    with np.errstate(divide="ignore", invalid="ignore"):
        return nearest.own[:, k, None] / radius[nearest.read[:, :k]]


def _flat_lid(distance: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """LID [rows] from ascending distances [rows, > k]: the first k against the next, 1e-4 in the log."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(distance[:, :k] / distance[:, k, None] + np.float32(1e-4))
        lid: NDArray[np.float32] = np.float32(-k) / log.sum(axis=1)
    return lid


def _mended(terms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the neighbours, where nan and inf become 1000 and -inf becomes 0."""
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float32] = terms.mean(axis=1)
    return np.nan_to_num(mean, nan=1000.0, posinf=1000.0, neginf=0.0)


LOCAL: dict[str, Callable[[_Nearest, int], NDArray[np.float32]]] = {
    "kdist": _kdist,
    "lid": _lid,
    "slof": _slof,
    "dao": _dao,
}
