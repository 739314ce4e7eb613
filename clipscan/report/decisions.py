"""Decisions of a reviewer, from CSV, parquet or JSON lines: key, decision (drop | keep), perhaps shard."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from clipscan.errors import DataError, RunError
from clipscan.report.find_sample import SampleFinder, shown
from clipscan.run.outputs import check_intact

NAMES = ("shard", "key", "decision")
SEPARATORS = ",;\t"  # of a CSV; spreadsheets take the semicolon where the comma is decimal
WORDS = {"drop": True, "keep": False}

Pair = tuple[str, str]


class Decision(NamedTuple):
    """What a file says of one sample, as it is written there."""

    row: int  # 1 the first record
    shard: str  # "" where the file does not say
    key: str  # or a file name, or SHARD/KEY
    drop: bool


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in the order of the file; other columns are ignored. Names are taken as they stand (no
    escapes). Errors: DataError with the row for a missing cell, another word than drop or keep."""
    return [_decision(path, row, record) for row, record in _records(path)]


def settle(path: Path, decisions: Iterable[Decision], names: SampleFinder) -> dict[Pair, bool]:
    """(shard, key) -> True for drop, in the order of the decisions.

    A sample may be named again with the same decision. Errors: DataError with the row for a contradiction,
    RunError for a sample that is not there, or a name that several have.
    """
    decided: dict[Pair, bool] = {}
    for one in decisions:
        try:
            pair = names.pairs[names.find(one.key, one.shard)]
        except RunError as unknown:
            shard, key = names.example()
            raise RunError(
                f"{path}, row {one.row}: {unknown}. Rows are key,decision or shard,key,decision, such as: "
                f"{shard},{key},drop"
            ) from unknown
        if decided.setdefault(pair, one.drop) != one.drop:
            raise DataError(f"{path}, row {one.row}: {shown(pair)} is to be dropped and kept; decide once")
    return decided


def _decision(path: Path, row: int, record: dict[str, Any]) -> Decision:
    shard, key, word = (record.get(name) for name in NAMES)
    if not isinstance(key, str) or not key or not isinstance(word, str) or not isinstance(shard or "", str):
        raise DataError(
            f"{path}, row {row}: expected text in key and decision, and perhaps in shard; found {record}"[
                :400
            ]
        )
    drop = WORDS.get(word.strip().lower())
    if drop is None:
        raise DataError(f"{path}, row {row}: the decision is {word[:40]!r}; write drop or keep")
    return Decision(row, shard or "", key, drop)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by number, 1 the first record."""
    readers = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: decisions are read from .csv, .parquet and .jsonl files")
    check_intact(path)  # where it is a run's calibration.parquet
    try:
        yield from enumerate(reader(path), 1)
    except UnicodeDecodeError as broken:
        raise DataError(f"{path} cannot be read as decisions: {broken}; save it as UTF-8") from broken
    except (OSError, ValueError, csv.Error) as broken:  # JSON's and pyarrow's among them
        raise DataError(f"{path} cannot be read as decisions: {broken}") from broken


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
        first = file.readline()
        for separator in SEPARATORS:
            cells = next(csv.reader([first], delimiter=separator), [])
            columns = [cell.strip().lower() for cell in cells]
            if {"key", "decision"} <= {*columns}:
                yield from filter(_filled, csv.DictReader(file, columns, delimiter=separator))
                return
        raise ValueError(
            "its first line, above row 1, must name the columns: key,decision or shard,key,decision; it is "
            f"{first.strip()[:200]!r}"
        )


def _filled(record: dict[str, Any]) -> bool:
    """Whether any cell of the row is filled: spreadsheets write rows of separators alone."""
    return any(cell and (not isinstance(cell, str) or cell.strip()) for cell in record.values())


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in filter(str.strip, file):
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"{line[:40]!r} is no object")
            yield record


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[name for name in file.schema_arrow.names if name in NAMES]):
            yield from batch.to_pylist()
