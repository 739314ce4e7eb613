"""The samples that the review names, each once, as columns for JSON; a sample's number is its place.

Text is bounded: captions are cut, and a sample with a name of more than NAME characters, which no dataset
has that was not made to harm, can be looked at but not decided on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.report.identities import batches
from clipscan.report.visible_text import shorten

NAME, CAPTION = 1000, 2000  # characters

Pair = tuple[str, str]
Row = dict[str, Any]


class Numbered:
    """Distinct texts, numbered as they come."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self.of.setdefault(text, len(self.of))

    def listed(self) -> list[str]:
        return list(self.of)


class SampleTable:
    """Samples by (shard, key); rows of suspects.parquet, and members and neighbours in tables of the run."""

    def __init__(self) -> None:
        self.number: dict[Pair, int] = {}
        self._shards, self._captions = Numbered(), Numbered()
        self._columns: dict[str, list[Any]] = {"shard": [], "key": [], "caption": [], "at": []}
        self._locked: list[int] = []

    def __len__(self) -> int:
        return len(self.number)

    def add(self, row: Row) -> int:
        """The number of the sample of a row with shard, key, caption and at."""
        pair = (row["shard"], row["key"])
        if pair not in self.number:
            self.number[pair] = len(self.number)
            self._append(row)
        return self.number[pair]

    def _append(self, row: Row) -> None:
        shard, key, at = row["shard"], row["key"], row.get("at")
        if max(len(shard), len(key)) > NAME:
            self._locked.append(len(self) - 1)
        self._columns["shard"].append(self._shards.add(shorten(shard, NAME)))
        self._columns["key"].append(shorten(key, NAME))
        self._columns["caption"].append(self._captions.add(shorten(row.get("caption") or "", CAPTION)))
        self._columns["at"].append(-1 if at is None else at)

    @property
    def places(self) -> list[int]:
        """Sample.at of every sample, -1 where it is not known."""
        return self._columns["at"]

    def columns(self, values: dict[Pair, Row], listed: set[Pair], method: str) -> dict[str, Any]:
        """For JSON. values: scores of the samples; listed: those on the drop list."""
        scores = [number_or_none(values.get(pair, {}).get(method)) for pair in self.number]
        return {
            "shards": self._shards.listed(),
            "captions": self._captions.listed(),
            "samples": {**self._columns, "score": scores},
            "listed": [number for pair, number in self.number.items() if pair in listed],
            "locked": self._locked,
        }


def number_or_none(value: Any) -> float | None:
    """For JSON, which has neither NaN nor infinities."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def values_of(folder: Path, pairs: Iterable[Pair], names: Iterable[str]) -> dict[Pair, Row]:
    """(shard, key) -> those of the columns `names` that scores/ has, for the pairs that it holds."""
    files = sorted((folder / "scores").glob("*.parquet"))
    wanted = set(pairs)
    there = [name for name in names if files and name in pq.read_schema(files[0]).names]
    return dict(_found(files, there, wanted)) if there and wanted else {}


def _found(files: list[Path], names: list[str], wanted: set[Pair]) -> Iterator[tuple[Pair, Row]]:
    keys = pa.array(sorted({key for _, key in wanted}), pa.string())
    for batch in batches(files, ["shard", "key", *names]):
        hits = batch.filter(pc.is_in(batch.column("key"), value_set=keys))
        for row in hits.to_pylist():
            if (pair := (row["shard"], row["key"])) in wanted:
                yield pair, row
