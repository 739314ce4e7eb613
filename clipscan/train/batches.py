"""A dataset as training reads it: shuffled batches of pixels and token rows, epoch after epoch.

What fits the budget is decoded once into a file of raw pixels that is mapped into memory (Cached). What
does not is read and decoded again in every epoch, through a buffer that shuffles (Streamed). Of several
processes each has its part of every batch: rows of the one, shards of the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from clipscan.data.dataset import Dataset, Shard
from clipscan.data.sample import Bad
from clipscan.embed.decode_pool import DecodePool, decode_all
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import InputError
from clipscan.scores.retrieval import PAIRS, different
from clipscan.train.probe import Probe
from clipscan.train.processes import Processes
from clipscan.train.survey import CAPTION, CAPTIONS, IDENTITIES, PIXELS, Survey

BUFFER_BYTES = 1 << 30  # decoded pixels that a stream shuffles among
PROBED = 32  # shards of a stream that are looked into for a probe

Tokenize = Callable[[list[str]], NDArray[np.int32]]


class TrainBatch(NamedTuple):
    pixels: NDArray[np.uint8]  # [b, S, S, 3]
    tokens: NDArray[np.int32]  # [u, context]: the distinct captions of the batch
    caption: NDArray[np.int64]  # [b]: which of them is each picture's


class BatchSource(Protocol):
    """`count` pictures (for a stream: at most), in batches that depend on (seed, epoch) alone; of each of
    `batch_size` pictures this process gets its part."""

    count: int

    def batches(self, epoch: int, batch_size: int) -> Iterator[TrainBatch]: ...
    def probe(self) -> Probe: ...
    def used_tokens(self) -> NDArray[np.int64] | None: ...


class Cached:
    """All pixels in one mapped file, all distinct captions tokenised once."""

    def __init__(
        self, folder: Path, count: int, spec: PixelSpec, seed: int, tokenize: Tokenize, mine: Processes
    ) -> None:
        self.count, self.seed, self.tokenize, self.mine = count, seed, tokenize, mine
        shape = (count, spec.size, spec.size, 3)
        self.pixels = np.memmap(folder / PIXELS, np.uint8, "r", shape=shape)
        self.caption = np.load(folder / CAPTION, allow_pickle=False)  # [count]
        self.captions: list[str] = json.loads((folder / CAPTIONS).read_text())
        self.tokens = tokenize(self.captions)  # [distinct, context]
        self.used = np.flatnonzero(np.bincount(self.tokens.reshape(-1)))
        self._identities = folder / IDENTITIES

    def batches(
        self, epoch: int, batch_size: int, among: NDArray[np.int64] | None = None
    ) -> Iterator[TrainBatch]:
        for rows in self.draws(epoch, batch_size, among):
            yield self.batch(rows)

    def draws(
        self, epoch: int, batch_size: int, among: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[np.int64]]:
        """Rows of one batch after the other, in random order, of all or of those `among` them."""
        draw = np.random.default_rng([self.seed, epoch])
        order = draw.permutation(self.count if among is None else among)
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = np.sort(order[start : start + batch_size])  # ascending: kinder to the disk
            yield rows[self.mine.rank :: self.mine.count]

    def batch(self, rows: NDArray[np.int64]) -> TrainBatch:
        distinct, caption = np.unique(self.caption[rows], return_inverse=True)
        return TrainBatch(self.pixels[rows], self.tokens[distinct], caption)

    def edited(self, rows: NDArray[np.int64], edit: Callable[[str], str]) -> NDArray[np.int32]:
        """Tokens of the edited caption of each row, [b, context]; of the caption itself where an edit has a
        token that no caption has, which a narrowed table does not have."""
        before = self.tokens[self.caption[rows]]
        after = self.tokenize([edit(self.captions[at]) for at in self.caption[rows]])
        known = np.isin(after, self.used).all(axis=1, keepdims=True)
        return np.where(known, after, before)

    def probe(self) -> Probe:
        """Of all pairs, at random."""
        order = np.random.default_rng(self.seed).permutation(self.count)
        rows = different(order, self.caption, count=PAIRS)
        rows = rows[different(np.arange(len(rows)), _same(self.pixels[rows]))]
        return Probe(self.pixels[rows], self.tokens[self.caption[rows]])

    def identities(self) -> list[tuple[str, str]]:
        """(shard, key) of every row."""
        return [(shard, key) for shard, key in json.loads(self._identities.read_text())]

    def used_tokens(self) -> NDArray[np.int64]:
        return self.used


class Streamed:
    """Shards in a new order every epoch, pictures shuffled within a buffer."""

    def __init__(
        self,
        dataset: Dataset,
        count: int,
        spec: PixelSpec,
        seed: int,
        tokenize: Tokenize,
        mine: Processes,
        pool: DecodePool,
    ) -> None:
        if len(dataset.shards) < mine.count:
            raise InputError(
                f"{dataset.source} has {len(dataset.shards)} shards, too few for {mine.count} processes; "
                "start fewer, or let its pixels be kept: a larger cache"
            )
        self.dataset, self.count, self.spec, self.seed = dataset, count, spec, seed
        self.tokenize, self.mine, self.pool = tokenize, mine, pool

    def batches(self, epoch: int, batch_size: int) -> Iterator[TrainBatch]:
        draw = np.random.default_rng([self.seed, epoch])
        shards = [self.dataset.shards[i] for i in draw.permutation(len(self.dataset.shards))]
        shards, batch_size = shards[self.mine.rank :: self.mine.count], batch_size // self.mine.count
        pairs = _shuffled(self._pairs(shards), max(2 * batch_size, BUFFER_BYTES // self.spec.nbytes), draw)
        batch: list[tuple[str, NDArray[np.uint8]]] = []
        for pair in pairs:
            batch.append(pair)
            if len(batch) == batch_size:
                distinct, caption = np.unique([text for text, _ in batch], return_inverse=True)
                pixels = np.stack([picture for _, picture in batch])
                yield TrainBatch(pixels, self.tokenize(distinct.tolist()), caption)
                batch = []

    def probe(self) -> Probe:
        """The first pairs of each of PROBED shards, drawn at random: later ones would cost a whole shard."""
        drawn = np.random.default_rng(self.seed).permutation(len(self.dataset.shards))
        wanted = 2 * PAIRS  # as some share a caption
        found: list[tuple[str, NDArray[np.uint8]]] = []
        for number in drawn:
            if len(found) >= wanted:
                break
            with closing(self._pairs([self.dataset.shards[number]])) as pairs:
                found += islice(pairs, -(-wanted // min(PROBED, len(drawn))))
        captions, pixels = [text for text, _ in found], np.stack([picture for _, picture in found])
        said = np.unique(captions, return_inverse=True)[1]
        rows = different(np.random.default_rng(self.seed).permutation(len(said)), said, _same(pixels))
        return Probe(pixels[rows], self.tokenize([captions[row] for row in rows]))

    def used_tokens(self) -> NDArray[np.int64] | None:
        return None

    def _pairs(self, shards: list[Shard]) -> Generator[tuple[str, NDArray[np.uint8]], None, None]:
        samples = chain.from_iterable(self.dataset.read(shard) for shard in shards)
        for one in decode_all(samples, self.spec, self.pool):
            if not isinstance(one, Bad):
                yield one[0].caption, one[1]


def _same(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[m, S, S, 3] -> a number for each picture, the same for equal ones."""
    digests = [hashlib.sha256(picture.tobytes()).digest() for picture in pixels]
    return np.unique(digests, return_inverse=True)[1]


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


def open_batches(
    found: Survey,
    dataset: Dataset,
    folder: Path,
    spec: PixelSpec,
    seed: int,
    tokenize: Tokenize,
    mine: Processes,
    pool: DecodePool,
) -> BatchSource:
    if found.cached:
        return Cached(folder, found.pairs, spec, seed, tokenize, mine)
    return Streamed(dataset, found.pairs, spec, seed, tokenize, mine, pool)
