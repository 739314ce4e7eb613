"""A reviewer's decisions, read from CSV, parquet or JSON lines: shard, key, decision (drop | keep)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from clipscan.errors import DataError

NAMES = ("shard", "key", "decision")
WORDS = {"drop": True, "keep": False}


def read_decisions(path: Path) -> dict[tuple[str, str], bool]:
    """(shard, key) -> True for drop, in the order of the file; other columns are ignored.

    Names are taken as they stand (no escapes). A sample may be named again with the same decision.
    Errors: DataError with the row for a missing cell, another word than drop or keep, a contradiction.
    """
    decided: dict[tuple[str, str], bool] = {}
    for row, record in _records(path):
        cells = [record.get(name) for name in NAMES]
        if not all(isinstance(cell, str) for cell in cells):
            raise DataError(f"{path}, row {row}: expected text in shard, key and decision, found {cells}")
        shard, key, word = (str(cell) for cell in cells)
        drop = WORDS.get(word.strip().lower())
        if drop is None:
            raise DataError(f"{path}, row {row}: the decision is {word[:40]!r}; write drop or keep")
        if decided.setdefault((shard, key), drop) != drop:
            raise DataError(f"{path}, row {row}: {(shard, key)!r} is to be dropped and kept; decide once")
    return decided


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by number, 1 the first record."""
    readers = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: decisions are read from .csv, .parquet and .jsonl files")
    try:
        yield from enumerate(reader(path), 1)
    except (OSError, ValueError, csv.Error) as broken:  # bad UTF-8, JSON and pyarrow's among them
        raise DataError(f"{path} cannot be read as decisions: {broken}") from broken


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
        yield from csv.DictReader(file)


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"{line[:40]!r} is no object")
            yield record


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[name for name in file.schema_arrow.names if name in NAMES]):
            yield from batch.to_pylist()
