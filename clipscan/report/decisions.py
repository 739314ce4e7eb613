"""Decisions of a reviewer, from CSV, parquet or JSON lines: key, decision (drop | keep), perhaps shard; or
from the JSON that the page saves, which may name a border and samples that are unsure."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from clipscan.data.text import printable
from clipscan.errors import DataError, RunError
from clipscan.report.find_sample import SampleFinder, shown
from clipscan.run.markers import check_intact

NAMES = ("shard", "key", "decision")
SEPARATORS = ",;\t"  # of a CSV; spreadsheets take the semicolon where the comma is decimal
INERT = re.compile(r"'+[=+\-@\t\r]")  # begins a name that the page has put an apostrophe before
WORDS = {"drop": True, "keep": False}
UNSURE, SAVED_BY_PAGE = "unsure", ".json"

Pair = tuple[str, str]


class Decision(NamedTuple):
    """What a file says of one sample, as it is written there."""

    row: int  # 1 the first record
    shard: str  # "" where the file does not say
    key: str  # or a file name, or SHARD/KEY
    drop: bool


class DecisionFile(NamedTuple):
    """decisions: in the order of the file; border: scores above it are dropped, None where it names none."""

    decisions: list[Decision]
    border: float | None


def read_decisions(path: Path) -> DecisionFile:
    """What a file says; other columns are ignored. Names are taken as they stand (no escapes). Only the
    page's JSON may name a border, and unsure samples, which are as good as not named. Errors: DataError with
    the row for a missing cell, another word than drop or keep, a border that is no finite number."""
    if path.suffix.lower() != SAVED_BY_PAGE:
        return DecisionFile([_decision(path, row, record) for row, record in _records(path)], None)
    check_intact(path)
    with _told(path):
        saved = _saved(path)
        records = _listed(saved)
    decisions = [
        _decision(path, row, record)
        for row, record in enumerate(records, 1)
        if record.get("decision") != UNSURE
    ]
    return DecisionFile(decisions, _border(path, saved.get("border")))


def _border(path: Path, border: Any) -> float | None:
    if border is None:
        return None
    threshold: Any = border.get("threshold") if isinstance(border, dict) else None
    is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not is_number or not abs(threshold) <= sys.float_info.max:
        raise DataError(
            f"{path}: its border is {str(border)[:80]}; expected an object with a number, threshold"
        )
    return float(threshold)


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
                f"{printable(f'{shard},{key},drop')}"
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
    """Rows of a table by number, 1 the first record."""
    readers = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl, ".ndjson": _jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: decisions are read from .json (of the page), .csv, .parquet and .jsonl files"
        )
    check_intact(path)  # where it is a run's calibration.parquet
    with _told(path):
        yield from enumerate(reader(path), 1)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Inside, what cannot be read is a DataError that names the file."""
    try:
        yield
    except UnicodeDecodeError as broken:
        raise DataError(f"{path} cannot be read as decisions: {broken}; save it as UTF-8") from broken
    except (OSError, ValueError, RecursionError, csv.Error) as broken:  # JSON's and pyarrow's among them
        raise DataError(f"{path} cannot be read as decisions: {broken}") from broken


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte order mark
        first = file.readline()
        for separator in SEPARATORS:
            cells = next(csv.reader([first], delimiter=separator), [])
            columns = [cell.strip().lower() for cell in cells]
            if {"key", "decision"} <= {*columns}:
                table = csv.DictReader(file, columns, delimiter=separator)
                yield from map(_without_apostrophes, filter(_filled, table))
                return
        raise ValueError(
            "its first line, above row 1, must name the columns: key,decision or shard,key,decision; it is "
            f"{first.strip()[:200]!r}"
        )


def _filled(record: dict[str, Any]) -> bool:
    """Whether any cell of the row is filled: spreadsheets write rows of separators alone."""
    return any(cell and (not isinstance(cell, str) or cell.strip()) for cell in record.values())


def _without_apostrophes(record: dict[str, Any]) -> dict[str, Any]:
    """Without the apostrophe that keeps spreadsheets from computing a name that begins like a formula."""
    return {
        name: cell[1:] if name in ("shard", "key") and cell and INERT.match(cell) else cell
        for name, cell in record.items()
    }


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in filter(str.strip, file):
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"{line[:40]!r} is no object")
            yield record


def _listed(saved: dict[str, Any]) -> list[dict[str, Any]]:
    decisions = saved.get("decisions")
    if not isinstance(decisions, list) or not all(isinstance(one, dict) for one in decisions):
        raise ValueError("its decisions are no list of objects")
    return decisions


def _saved(path: Path) -> dict[str, Any]:
    """The value of a file that the page saved. ValueError for any other."""
    found = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(found, dict) or found.get("clipscan") != "decisions":
        raise ValueError('it was not saved by the page of a run: it lacks "clipscan": "decisions"')
    if found.get("version") != 1:
        raise ValueError(f"its version is {str(found.get('version'))[:20]}; this clipscan reads version 1")
    return found


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[name for name in file.schema_arrow.names if name in NAMES]):
            yield from batch.to_pylist()
