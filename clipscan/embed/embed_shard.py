"""Samples -> float16 vectors, one shard at a time; where asked, features of an untrained network too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipscan.data.sample import Bad, Sample
from clipscan.embed.decode_pool import Decoded, DecodePool, decode_all
from clipscan.embed.encoding_lanes import Lane, Pictures, VectorPair, open_lane
from clipscan.embed.model import Encoder
from clipscan.embed.tokenizing import unread
from clipscan.embed.untrained import WIDTH, untrained_features
from clipscan.errors import InputError

Item = TypeVar("Item")
Features = NDArray[np.float16]
LARGEST = np.finfo(np.float16).max


class Embedded(NamedTuple):
    """One shard's vectors; row i of every array belongs to samples[i]. Not normalised."""

    image: NDArray[np.float16]  # [n, d]
    text: NDArray[np.float16]  # [n, d]
    image_norm: NDArray[np.float32]  # [n], of the float32 vectors
    text_norm: NDArray[np.float32]  # [n]
    untrained: Features | None  # [n, 688], see untrained.py; None where not asked for
    samples: list[Sample]  # [n], without the picture's bytes
    bad: list[Bad]


class _UnderWay(NamedTuple):
    """A batch without its pictures, and what waits for the arrays of its good samples."""

    batch: list[Sample | Bad]
    vectors: Callable[[], VectorPair]
    untrained: Callable[[], Features | None]


def embed_samples(
    samples: Iterable[Sample | Bad],
    encoder: Encoder,
    pool: DecodePool,
    *,
    batch_size: int = 256,
    untrained: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Embedded:
    """Decode and encode a shard's samples, in order.

    Batches begin at the shard's first sample, so a shard has the same bytes whenever it is run. What
    cannot be decoded is in `bad` with its reason; so is a caption whose tokens stand beyond what is read of
    it, and a vector that is not finite, or leaves float16's range. `untrained`: those features too.
    `progress` is called with the number of samples (good or bad) that were finished since its last call.
    """
    if batch_size < 1:
        raise InputError(f"a batch holds at least one picture, got batch_size={batch_size}")
    lane = open_lane(encoder, batch_size)
    under_way: deque[_UnderWay] = deque()
    parts: list[Embedded] = []

    def finish() -> None:
        batch, vectors, features = under_way.popleft()
        parts.append(_embedded(batch, *vectors(), features()))
        if progress is not None:
            progress(len(batch))

    decoded = _with_captions(decode_all(samples, encoder.spec, pool), encoder)
    # Threads of their own: beside a GPU this one hands over pictures, and should do nothing else. (Not tried
    # on a GPU yet.)
    with ThreadPoolExecutor(max(1, lane.ahead)) as helpers:

        def features(pictures: Pictures) -> Callable[[], Features | None]:
            return helpers.submit(untrained_features, pictures).result

        for batch in batched(decoded, batch_size):
            under_way.append(_started(batch, lane, encoder.width, features if untrained else _not_asked))
            if len(under_way) > lane.ahead:
                finish()
        while under_way:
            finish()
    return _joined(parts, encoder.width, untrained)


def _not_asked(_pictures: Pictures) -> Callable[[], Features | None]:
    return lambda: None


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
    batch: list[Decoded | Bad],
    lane: Lane,
    width: int,
    features: Callable[[Pictures], Callable[[], Features | None]],
) -> _UnderWay:
    good = [one for one in batch if not isinstance(one, Bad)]
    rest = [one if isinstance(one, Bad) else replace(one[0], image=None) for one in batch]
    if not good:
        nothing = np.empty((0, width), np.float32)
        return _UnderWay(rest, lambda: (nothing, nothing), features([]))
    pictures = [pixels for _, pixels in good]
    vectors = lane.start(pictures, [sample.caption for sample, _ in good])
    return _UnderWay(rest, vectors, features(pictures))  # the device is at work already


def _embedded(
    batch: list[Sample | Bad],
    image: NDArray[np.float32],
    text: NDArray[np.float32],
    untrained: Features | None,
) -> Embedded:
    """image, text [g, d], untrained [g, 688]: of the batch's good samples."""
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
        None if untrained is None else untrained[fits],
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


def _joined(parts: list[Embedded], width: int, untrained: bool) -> Embedded:
    nothing = np.empty((0, width), np.float16)
    none = np.empty(0, np.float32)
    features = [part.untrained for part in parts if part.untrained is not None]
    return Embedded(
        np.concatenate([nothing, *(part.image for part in parts)]),
        np.concatenate([nothing, *(part.text for part in parts)]),
        np.concatenate([none, *(part.image_norm for part in parts)]),
        np.concatenate([none, *(part.text_norm for part in parts)]),
        np.concatenate([np.empty((0, WIDTH), np.float16), *features]) if untrained else None,
        [sample for part in parts for sample in part.samples],
        [bad for part in parts for bad in part.bad],
    )
