"""Samples -> float16 vectors, one shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipscan.data.sample import Bad, Sample
from clipscan.embed.decode import Decoded, DecodePool, decode_all
from clipscan.embed.model import Encoder

Item = TypeVar("Item")


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
    cannot be decoded is in `bad` with its reason; so is a vector that is not finite, or leaves
    float16's range. `progress` is told how many samples (good or bad) were finished since last told.
    """
    parts: list[Embedded] = []
    for batch in _batched(decode_all(samples, encoder.spec, pool), batch_size):
        parts.append(_embed_batch(batch, encoder))
        if progress is not None:
            progress(len(batch))
    return _joined(parts, encoder.width)


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _embed_batch(batch: list[Decoded | Bad], encoder: Encoder) -> Embedded:
    good = [one for one in batch if not isinstance(one, Bad)]
    if not good:
        return _joined([], encoder.width)._replace(bad=[one for one in batch if isinstance(one, Bad)])
    image = encoder.encode_images(np.stack([pixels for _, pixels in good]))
    text = encoder.encode_texts([sample.caption for sample, _ in good])
    reasons = [_unusable(i, t) for i, t in zip(image, text, strict=True)]
    kept = np.array([not reason for reason in reasons])
    # Bad samples keep their place in the shard's order, whichever stage found them.
    verdicts = iter(zip(good, reasons, strict=True))
    bad: list[Bad] = []
    for one in batch:
        if isinstance(one, Bad):
            bad.append(one)
        else:
            (sample, _), reason = next(verdicts)
            if reason:
                bad.append(Bad(sample.shard, sample.key, reason))
    return Embedded(
        image[kept].astype(np.float16),
        text[kept].astype(np.float16),
        np.linalg.norm(image[kept], axis=1),
        np.linalg.norm(text[kept], axis=1),
        [replace(sample, image=None) for (sample, _), keep in zip(good, kept, strict=True) if keep],
        bad,
    )


def _unusable(image: NDArray[np.float32], text: NDArray[np.float32]) -> str:
    for vector, what in ((image, "picture"), (text, "caption")):
        if not np.isfinite(vector).all():
            return f"the model gave this {what} a vector that is not finite"
        if np.abs(vector).max() > np.finfo(np.float16).max:
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
