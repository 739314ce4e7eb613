"""A dataset as training wants it: shuffled batches of pixels and token rows, epoch after epoch.

What fits the budget is decoded once into a file of raw pixels that is mapped into memory (Cached). What
does not is read and decoded again in every epoch, through a buffer that shuffles (Streamed).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from clipscan.data.dataset import Dataset, Shard
from clipscan.data.sample import Bad
from clipscan.embed.decode import DecodePool, decode_all
from clipscan.embed.pixels import PixelSpec
from clipscan.train.survey import CAPTION, CAPTIONS, PIXELS, Survey

BUFFER_BYTES = 1 << 30  # decoded pixels that a stream shuffles among

Tokenize = Callable[[list[str]], NDArray[np.int32]]


class Batch(NamedTuple):
    pixels: NDArray[np.uint8]  # [b, S, S, 3]
    tokens: NDArray[np.int32]  # [u, context]: the distinct captions of the batch
    caption: NDArray[np.int64]  # [b]: which of them is each picture's


class Source(Protocol):
    """`count` pictures (for a stream: at most), in batches that depend on (seed, epoch) alone."""

    count: int

    def batches(self, epoch: int, batch_size: int) -> Iterator[Batch]: ...
    def used_tokens(self) -> NDArray[np.int64] | None: ...


class Cached:
    """All pixels in one mapped file, all distinct captions tokenised once."""

    def __init__(self, folder: Path, count: int, spec: PixelSpec, seed: int, tokenize: Tokenize) -> None:
        self.count, self.seed = count, seed
        shape = (count, spec.size, spec.size, 3)
        self.pixels = np.memmap(folder / PIXELS, np.uint8, "r", shape=shape)
        self.caption = np.load(folder / CAPTION, allow_pickle=False)  # [count]
        captions = json.loads((folder / CAPTIONS).read_text())
        self.tokens = tokenize(captions)  # [distinct, context]

    def batches(self, epoch: int, batch_size: int) -> Iterator[Batch]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        for start in range(0, self.count - batch_size + 1, batch_size):
            rows = np.sort(order[start : start + batch_size])  # ascending: kinder to the disk
            distinct, caption = np.unique(self.caption[rows], return_inverse=True)
            yield Batch(self.pixels[rows], self.tokens[distinct], caption)

    def used_tokens(self) -> NDArray[np.int64] | None:
        return np.flatnonzero(np.bincount(self.tokens.reshape(-1)))


class Streamed:
    """Shards in a new order every epoch, pictures shuffled within a buffer."""

    def __init__(
        self, dataset: Dataset, count: int, spec: PixelSpec, seed: int, tokenize: Tokenize, pool: DecodePool
    ) -> None:
        self.dataset, self.count, self.spec, self.seed = dataset, count, spec, seed
        self.tokenize, self.pool = tokenize, pool

    def batches(self, epoch: int, batch_size: int) -> Iterator[Batch]:
        draw = np.random.default_rng([self.seed, epoch])
        shards = [self.dataset.shards[i] for i in draw.permutation(len(self.dataset.shards))]
        pairs = _shuffled(self._pairs(shards), max(2 * batch_size, BUFFER_BYTES // self.spec.nbytes), draw)
        batch: list[tuple[str, NDArray[np.uint8]]] = []
        for pair in pairs:
            batch.append(pair)
            if len(batch) == batch_size:
                distinct, caption = np.unique([text for text, _ in batch], return_inverse=True)
                pixels = np.stack([picture for _, picture in batch])
                yield Batch(pixels, self.tokenize(distinct.tolist()), caption)
                batch = []

    def used_tokens(self) -> NDArray[np.int64] | None:
        return None

    def _pairs(self, shards: list[Shard]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        samples = chain.from_iterable(self.dataset.read(shard) for shard in shards)
        for one in decode_all(samples, self.spec, self.pool):
            if not isinstance(one, Bad):
                yield one[0].caption, one[1]


def _shuffled(pairs: Iterator[Any], size: int, draw: np.random.Generator) -> Iterator[Any]:
    """The pairs, each leaving a buffer of `size` at random."""
    buffer: list[Any] = []
    for pair in pairs:
        if len(buffer) < size:
            buffer.append(pair)
            continue
        at = int(draw.integers(size))
        yield buffer[at]
        buffer[at] = pair
    for at in draw.permutation(len(buffer)):
        yield buffer[at]


def open_source(
    found: Survey,
    dataset: Dataset,
    folder: Path,
    spec: PixelSpec,
    seed: int,
    tokenize: Tokenize,
    pool: DecodePool,
) -> Source:
    if found.cached:
        return Cached(folder, found.pairs, spec, seed, tokenize)
    return Streamed(dataset, found.pairs, spec, seed, tokenize, pool)
