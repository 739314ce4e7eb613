"""A dataset as training wants it: shuffled batches of pixels and token rows, epoch after epoch.

What fits the budget is decoded once into a file of raw pixels that is mapped into memory (Cached). What
does not is read and decoded again in every epoch, through a buffer that shuffles (Streamed).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from clipscan.data.dataset import Dataset, Shard
from clipscan.data.sample import Bad, Sample
from clipscan.embed.decode import DecodePool, decode_all
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import DataError

BUFFER_BYTES = 1 << 30  # decoded pixels that a stream shuffles among

LOG_SECONDS = 30.0  # a first pass that takes longer speaks in between

Tokenize = Callable[[list[str]], NDArray[np.int32]]
Log = Callable[[str], None]


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
        self.pixels = np.memmap(folder / "pixels.u8", np.uint8, "r", shape=shape)
        self.caption = np.load(folder / "caption.npy", allow_pickle=False)  # [count]
        captions = json.loads((folder / "captions.json").read_text())
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


class Survey(NamedTuple):
    """What the first pass over the dataset found; `cached` when its pixels are in the folder."""

    cached: bool
    pairs: int
    bad: int


def survey(
    dataset: Dataset,
    folder: Path,
    spec: PixelSpec,
    pool: DecodePool,
    *,
    budget: int,
    fingerprint: str,
    log: Log,
) -> Survey:
    """One pass over the dataset, decoding into `folder` up to `budget` bytes.

    A finished earlier pass over the same data is believed.

    Raises DataError when there is nothing to learn from.
    """
    done = folder / "survey.json"
    if done.exists():
        said = json.loads(done.read_text())
        if said.pop("fingerprint") == fingerprint:
            return Survey(**said)
    found = _decode_into(folder, dataset, spec, pool, budget, log)
    if not found.pairs:
        raise DataError(
            f"nothing to train on in {dataset.source}: {len(dataset.shards)} shards, no readable pair, "
            f"{found.bad} unreadable; the log above names the first of them"
        )
    _write(done, json.dumps({**found._asdict(), "fingerprint": fingerprint}).encode())
    return found


def _decode_into(
    folder: Path, dataset: Dataset, spec: PixelSpec, pool: DecodePool, budget: int, log: Log
) -> Survey:
    read = bad = decoded = 0

    def samples() -> Iterator[Sample | Bad]:
        nonlocal read
        for one in chain.from_iterable(dataset.read(shard) for shard in dataset.shards):
            read += 1
            yield one

    everything = samples()
    number: dict[str, int] = {}
    caption: list[int] = []
    spoke = time.monotonic()
    with (folder / "pixels.u8").open("wb") as file:
        for one in decode_all(everything, spec, pool):
            if isinstance(one, Bad):
                bad += 1
                if bad <= 5:
                    log(f"left out: {one.shard} {one.key}: {one.reason}")
                continue
            if (decoded + 1) * spec.nbytes > budget:
                break
            file.write(one[1].data)
            caption.append(number.setdefault(one[0].caption, len(number)))
            decoded += 1
            if time.monotonic() - spoke > LOG_SECONDS:
                spoke = time.monotonic()
                log(f"decoded {decoded:,} pictures")
        else:
            _write(folder / "captions.json", json.dumps(list(number)).encode())
            np.save(folder / "caption.npy", np.array(caption, np.int64))
            return Survey(True, decoded, bad)
    (folder / "pixels.u8").unlink()
    for _ in everything:  # the rest is only counted: a schedule needs to know its end
        pass
    log(f"{read} samples exceed the {budget / 1e9:.1f} GB for decoded pixels: decoding again in every epoch")
    return Survey(False, read - bad, bad)


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


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
