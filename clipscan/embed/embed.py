"""Samples -> float16 vectors, one shard at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipscan.data.sample import Bad, Sample
from clipscan.embed.captions import unread
from clipscan.embed.decode import Decoded, DecodePool, decode_all
from clipscan.embed.model import Encoder
from clipscan.embed.stream import Lane, Vectors, open_lane
from clipscan.errors import InputError

Item = TypeVar("Item")
LARGEST = np.finfo(np.float16).max


class Embedded(NamedTuple):
    """One shard's vectors; row i of every array belongs to samples[i]. Not normalised."""

    image: NDArray[np.float16]  # [n, d]
    text: NDArray[np.float16]  # [n, d]
    image_norm: NDArray[np.float32]  # [n], of the float32 vectors
    text_norm: NDArray[np.float32]  # [n]
    samples: list[Sample]  # [n], without the picture's bytes
    bad: list[Bad]


def embed_samples(
    samples: Iterable[Sample | Bad],
    encoder: Encoder,
    pool: DecodePool,
    *,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Embedded:
    """Decode and encode a shard's samples, in order.

    Batches begin at the shard's first sample, so a shard has the same bytes whenever it is run. What
    cannot be decoded is in `bad` with its reason; so is a caption whose tokens stand beyond what is read of
    it, and a vector that is not finite, or leaves float16's range. `progress` is told how many samples (good
    or bad) were finished since last told.
    """
    if batch_size < 1:
        raise InputError(f"a batch holds at least one picture, got batch_size={batch_size}")
    lane = open_lane(encoder, batch_size)
    under_way: deque[tuple[list[Sample | Bad], Callable[[], Vectors]]] = deque()
    parts: list[Embedded] = []

    def finish() -> None:
        batch, vectors = under_way.popleft()
        parts.append(_embedded(batch, *vectors()))
        if progress is not None:
            progress(len(batch))

    decoded = _with_captions(decode_all(samples, encoder.spec, pool), encoder)
    for batch in batched(decoded, batch_size):
        under_way.append(_started(batch, lane, encoder.width))
        if len(under_way) > lane.ahead:
            finish()
    while under_way:
        finish()
    return _joined(parts, encoder.width)


def _with_captions(decoded: Iterable[Decoded | Bad], encoder: Encoder) -> Iterator[Decoded | Bad]:
    for one in decoded:
        if not isinstance(one, Bad) and (reason := unread(encoder.tokenizer, one[0].caption)):
            one = Bad(one[0].shard, one[0].key, reason)
        yield one


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _started(
    batch: list[Decoded | Bad], lane: Lane, width: int
) -> tuple[list[Sample | Bad], Callable[[], Vectors]]:
    """The batch without its pictures, and what waits for its vectors."""
    good = [one for one in batch if not isinstance(one, Bad)]
    rest = [one if isinstance(one, Bad) else replace(one[0], image=None) for one in batch]
    if not good:
        nothing = np.empty((0, width), np.float32)
        return rest, lambda: (nothing, nothing)
    return rest, lane.start([pixels for _, pixels in good], [sample.caption for sample, _ in good])


def _embedded(batch: list[Sample | Bad], image: NDArray[np.float32], text: NDArray[np.float32]) -> Embedded:
    """image, text [g, d]: the vectors of the batch's good samples."""
    fits = (np.abs(image).max(axis=1) <= LARGEST) & (np.abs(text).max(axis=1) <= LARGEST)  # NaN does not
    # Bad samples keep their place in the shard's order, whichever stage found them.
    row = iter(range(len(image)))
    good: list[Sample] = []
    bad: list[Bad] = []
    for one in batch:
        if isinstance(one, Bad):
            bad.append(one)
        elif fits[i := next(row)]:
            good.append(one)
        else:
            bad.append(Bad(one.shard, one.key, _unusable(image[i], text[i])))
    image, text = image[fits], text[fits]
    return Embedded(
        image.astype(np.float16),
        text.astype(np.float16),
        np.linalg.norm(image, axis=1),
        np.linalg.norm(text, axis=1),
        good,
        bad,
    )


def _unusable(image: NDArray[np.float32], text: NDArray[np.float32]) -> str:
    for vector, what in ((image, "picture"), (text, "caption")):
        if not np.isfinite(vector).all():
            return f"the model gave this {what} a vector that is not finite"
        if np.abs(vector).max() > LARGEST:
            return f"the model gave this {what} a vector beyond float16 (largest {np.abs(vector).max():.3g})"
    return ""


def _joined(parts: list[Embedded], width: int) -> Embedded:
    nothing = np.empty((0, width), np.float16)
    none = np.empty(0, np.float32)
    return Embedded(
        np.concatenate([nothing, *(part.image for part in parts)]),
        np.concatenate([nothing, *(part.text for part in parts)]),
        np.concatenate([none, *(part.image_norm for part in parts)]),
        np.concatenate([none, *(part.text_norm for part in parts)]),
        [sample for part in parts for sample in part.samples],
        [bad for part in parts for bad in part.bad],
    )
