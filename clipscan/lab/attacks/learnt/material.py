"""What a trigger is learnt from: pictures that do not show the target, some that do, and their captions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.data import Dataset, Sample
from clipscan.embed.decode_pool import DecodePool, decode_all
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import DataError
from clipscan.lab.attacks.prompts import mentions

PICTURES = 8000  # to learn from; all pixels are held in memory
OWN = 1 / 8  # at most this many of them, as a part, name the target
HELD_OUT = 500  # more of those that do not, to try the trigger on
LEAST = 16  # pictures without the target: fewer teach nothing

Identity = tuple[str, str]  # (shard, key)


class Material(NamedTuple):
    """Decoded pairs. `held_out` are whole samples: triggers are tried on files, as they would be used."""

    pixels: NDArray[np.uint8]  # [n, S, S, 3]
    captions: list[str]  # [n]
    own: NDArray[np.bool_]  # [n]: does the caption name the target?
    held_out: list[Sample]  # of other pictures, none of which names it


def gather(
    dataset: Dataset, spec: PixelSpec, target: str, *, count: int = PICTURES, seed: int = 0
) -> Material:
    """About `count` pairs, drawn by (seed, shard, key) alone; those that name the target as far as OWN lets.

    Two passes: over captions, then over the chosen pictures; those that cannot be decoded are left out.
    A small dataset keeps a tenth apart. DataError when fewer than LEAST pairs do not name the target.
    """
    own, other = _drawn(dataset, target, seed)
    apart = min(HELD_OUT, len(other) // 10)
    chosen = {*own[: int(OWN * count)], *other[: apart + count]}
    samples = list(_fetched(dataset, chosen))
    kept, held_out = frozenset(other[:apart]), []
    pixels, captions = [], []
    with DecodePool() as pool:
        decoded = [one for one in decode_all(samples, spec, pool) if isinstance(one, tuple)]
    for sample, picture in decoded:
        if (sample.shard, sample.key) in kept:
            held_out.append(sample)
        else:
            pixels.append(picture)
            captions.append(sample.caption)
    naming = np.array([mentions(caption, target) for caption in captions], np.bool_)
    if len(naming) - int(naming.sum()) < LEAST or not held_out:
        raise DataError(
            f"{dataset.source}: {len(naming) - int(naming.sum())} pictures that can be read and do not show "
            f"{target!r}; a trigger is learnt from at least {LEAST}, and more to try it on"
        )
    return Material(np.stack(pixels), captions, naming, held_out)


def _drawn(dataset: Dataset, target: str, seed: int) -> tuple[list[Identity], list[Identity]]:
    """(pairs that name the target, the others), each in an order that the seed decides."""
    found: tuple[list[tuple[bytes, Identity]], list[tuple[bytes, Identity]]] = ([], [])
    for shard in dataset.shards:
        for sample in dataset.read(shard):
            if isinstance(sample, Sample):
                identity = (sample.shard, sample.key)
                lot = hashlib.sha256(f"clipscan craft {seed}/{sample.shard}/{sample.key}".encode()).digest()
                found[not mentions(sample.caption, target)].append((lot, identity))
    own, other = ([identity for _, identity in sorted(part)] for part in found)
    return own, other


def _fetched(dataset: Dataset, chosen: set[Identity]) -> Iterator[Sample]:
    for shard in dataset.shards:
        for sample in dataset.read(shard):
            if isinstance(sample, Sample) and (sample.shard, sample.key) in chosen:
                yield sample
