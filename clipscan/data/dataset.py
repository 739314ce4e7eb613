"""What a dataset is to everything above: an ordered list of shards, and samples read from each.

Public: Shard, Vectors, Dataset. A reader is a Dataset that says how one shard becomes Records; the
rest (reading, fetching again, describing itself) is here, once.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from clipscan.data.inventory import File, describe, is_url
from clipscan.data.sample import Bad, Sample, tally, unreadable
from clipscan.errors import DataError


class Shard(NamedTuple):
    """One unit of reading. `name` is part of every sample's identity and unique in the dataset."""

    name: str  # path relative to the dataset's root: "00012.tar", ".", "t.csv[0:10000]"
    location: str  # local path or fsspec URL
    size: int  # bytes, -1 unknown
    stamp: str  # changes when the content may have changed (mtime in ns, etag, digest); "" unknown
    rows: tuple[int, int] | None = None  # the slice [start, stop) of a folder's listing or a table


class Vectors(NamedTuple):
    """One shard of precomputed embeddings: row i of the arrays is samples[i] (whose image is None).

    `bad` says why some rows hold no vector; in the arrays they are NaN.
    """

    image: np.ndarray  # [n, d] float16/32/64, a memory map where the file allows it
    text: np.ndarray | None  # [n, d]
    samples: list[Sample]
    bad: Mapping[int, str]


class Record(NamedTuple):
    """What lies at `at` (row number, or byte offset in a tar): a sample, a bad one, or no pair at all."""

    at: int
    key: str
    outcome: Sample | Bad | None
    kinds: tuple[str, ...] = ()  # of the members that are no pair: their extensions


def broken_shard(shard: Shard, reason: object) -> Record:
    """What is read of a shard that cannot be read, or not on."""
    return Record(-1, "", unreadable(shard.name, "", reason))


class Dataset(ABC):
    """A dataset of image-text pairs. Holds only listings, so it pickles and travels to workers.

    `shards` is sorted and deterministic. Reading never raises for what a sample holds: that is a
    Bad with a reason. A shard that breaks half-way keeps what came before and ends with a Bad.
    """

    format: ClassVar[str]
    stamped: ClassVar[bool] = True  # a shard's stamp tells of all its files

    def __init__(self, source: str, shards: list[Shard], notes: str = "") -> None:
        if len({shard.name for shard in shards}) < len(shards):
            raise DataError(f"{source}: two shards have the same name; open them as two datasets")
        self.source = source
        self.shards = shards
        self.notes = notes  # what detection saw and left alone, for describe()
        self.beside: Counter[str] = Counter()  # extensions of files that lie there and belong to no sample
        self.passed: dict[str, Counter[str]] = {}  # by shard as read: extensions of members of no pair
        self.roots: list[str] = []  # absolute paths and URLs of what was named, brace lists expanded
        self.opened: dict[str, Any] = {}  # arguments of open_dataset that open it again from any folder

    def holds(self) -> set[str]:
        """Locations of all files that the samples come from."""
        return {shard.location for shard in self.shards}

    @abstractmethod
    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        """Everything in the shard, in order; with `only` (at -> key) what lies there, if so named."""

    def read(self, shard: Shard) -> Iterator[Sample | Bad]:
        """The shard's samples in order, bounded memory; a Bad for each that cannot be read."""
        passed = self.passed[shard.name] = Counter()
        for record in self.records(shard):
            if record.outcome is None:
                tally(passed, record.kinds)
            else:
                yield record.outcome

    def fetch(self, shard: Shard, wanted: Mapping[str, int]) -> Iterator[Sample]:
        """The samples `wanted` (key -> Sample.at) of one shard, without reading the others.

        In the order they lie in the shard. Those that are gone or unreadable by now are left out.
        Where `at` is -1 the shard is scanned for the keys instead.
        """
        if any(at < 0 for at in wanted.values()):
            found = (r.outcome for r in self.records(shard) if r.key in wanted)
        else:
            found = (r.outcome for r in self.records(shard, {at: key for key, at in wanted.items()}))
        return (sample for sample in found if isinstance(sample, Sample))

    def files(self, shard: Shard) -> dict[str, File]:
        """Name -> every file whose bytes decide what the shard holds, as it is by now. Never outside."""
        place = shard.location
        return {whole_name(shard): File(*shard[1:4]) if is_url(place) else describe(place)}

    def columns(self, shard: Shard) -> tuple[str, ...]:
        """What is read of it, where that was chosen by looking at another file than the shard's."""
        return ()

    def vectors(self, shard: Shard) -> Vectors:
        """Precomputed embeddings of the shard. Only of format "embeddings"; DataError otherwise."""
        raise DataError(f"{self.source} holds pictures ({self.format}), not embeddings: embed it first")

    def describe(self) -> str:
        """One line for people: format, shards, bytes, source, and what was left alone."""
        size = sum(shard.size for shard in self.shards if shard.size > 0)
        shards = f"{len(self.shards):,} shard" + ("s" if len(self.shards) != 1 else "")
        source = self.source if len(self.source) < 200 else f"{self.source[:120]} ... {self.source[-60:]}"
        return f"{self.format}: {shards}, {human_bytes(size)}, from {source}" + (
            f" ({self.notes})" if self.notes else ""
        )


class RowKeys:
    """Keys of a table's rows: the key column's value, the row number where there is none.

    A value that came before in the shard gets "#row" appended: two captions of one picture are two
    samples. Deterministic for a shard read from its start.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def name(self, value: str, row: int) -> str:
        key = value or f"{row:09d}"
        while key in self._seen:  # a table may also hold the value with "#row" behind it
            key = f"{key}#{row}"
        self._seen.add(key)
        return key


def slices(name: str, total: int, rows_per_shard: int) -> list[tuple[str, tuple[int, int]]]:
    """Cut `total` rows into named slices; one slice keeps the plain name."""
    if total <= rows_per_shard:
        return [(name, (0, total))]
    cuts = [(start, min(start + rows_per_shard, total)) for start in range(0, total, rows_per_shard)]
    return [(f"{name}[{start}:{stop}]", (start, stop)) for start, stop in cuts]


def whole_name(shard: Shard) -> str:
    """The name of the file that the shard is, or is a slice of."""
    return shard.name.removesuffix("[{}:{}]".format(*shard.rows)) if shard.rows else shard.name


def stem(path: str) -> str:
    """A path without its last extension: the key of a picture file."""
    return os.path.splitext(path)[0]


def human_bytes(size: float) -> str:
    """1500 -> '1.5 kB' (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
