"""The state of a run in a few lines, and the next command: the end of a scan, and `clipscan status`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from clipscan.report.choose import method_of
from clipscan.report.convicted import convicted_of, estimate_words
from clipscan.report.rule import in_words, rule_of_run
from clipscan.run.check_learnt import learnt_words
from clipscan.run.markers import Damaged, check_intact
from clipscan.run.run_folder import run_record
from clipscan.scores.estimate import Estimate


def summary(folder: Path) -> list[str]:
    """Counts, suspects, groups and drop list of a run, as far as it has come; and what to do next, or what
    mends it where one of these files is damaged."""
    counted = [*_counted(run_record(folder))]
    try:
        check_intact(*(folder / f"{name}.parquet" for name in ("suspects", "groups", "drop")))
    except Damaged as damage:
        return [*counted, str(damage)]
    return [*counted, *_learnt(folder), *_found(folder), *_next(folder)]


def _counted(record: dict[str, Any]) -> Iterator[str]:
    counts = record.get("counts", {})
    if "listed" in counts:
        listed, embedded, bad = (counts.get(name, 0) for name in ("listed", "embedded", "bad"))
        yield f"{listed:,} listed = {embedded:,} embedded + {bad:,} bad" + (" (bad.parquet)" if bad else "")


def _learnt(folder: Path) -> Iterator[str]:
    """What the model has learnt of these pairs, once they are scored: whether finding nothing means
    anything."""
    yield from filter(None, learnt_words(run_record(folder)))


def _found(folder: Path) -> Iterator[str]:
    """Suspects, which are to be looked at; what is dropped is reported apart from them."""
    if (folder / "suspects.parquet").exists():
        suspects = pq.read_metadata(folder / "suspects.parquet").num_rows
        yield f"{_many(suspects, 'suspect')} to look at, the most suspicious first (suspects.parquet)"
    if (folder / "groups.parquet").exists():
        kinds = pq.read_table(folder / "groups.parquet", columns=["kind"])["kind"].to_pylist()
        convicted = convicted_of(folder) or []
        yield from (f"convicted: {one.words()}" for one in convicted)
        others = _many(kinds.count("suspects") - len(convicted), "other group" if convicted else "group")
        yield (
            f"{others} of suspects whose captions say the same, "
            f"{_many(kinds.count('copies'), 'group')} of near-copies (groups.parquet)"
        )
    if (folder / "drop.parquet").exists():
        yield _dropped(folder)


def _dropped(folder: Path) -> str:
    """How many are dropped, and by which rule."""
    record = run_record(folder)
    dropped = pq.read_metadata(folder / "drop.parquet").num_rows
    kept = record.get("counts", {}).get("embedded", dropped) - dropped
    rule = rule_of_run(folder)
    words = in_words(rule, method_of(record))
    if "apart" in rule and "estimate" in record:
        words = estimate_words(Estimate.of(record["estimate"]), convicted_of(folder))
    return f"{dropped:,} to drop, {kept:,} to keep (drop.parquet, keep.txt)" + (f": {words}" if words else "")


def dropped_before(folder: Path) -> str:
    """The drop list as it is, in words: how many by which rule; "" where it names no pair or is damaged."""
    path = folder / "drop.parquet"
    try:
        check_intact(path)
    except Damaged:
        return ""
    dropped = pq.read_metadata(path).num_rows if path.exists() else 0
    words = in_words(rule_of_run(folder), method_of(run_record(folder)))
    return f"{dropped:,} dropped" + (f", {words}" if words else "") if dropped else ""


def _next(folder: Path) -> Iterator[str]:
    name = shlex.quote(str(folder))
    if not (folder / "drop.parquet").exists():
        yield (
            f"next: clipscan score {name}"
            if _embedded(folder)
            else "next: the same command again; it goes on"
        )
        return
    if (folder / "report/index.html").exists():
        yield f"look at {folder / 'report/index.html'}"
    if pq.read_metadata(folder / "drop.parquet").num_rows:
        yield f"next: clipscan apply {name} --to DIR"
    else:
        yield f"to drop some all the same: clipscan export {name} --fraction 0.01, or --decisions my.csv"


def _embedded(folder: Path) -> bool:
    """Whether every shard has its vectors."""
    shards = run_record(folder).get("dataset", {}).get("shards", [])
    done = list((folder / "embeddings/metadata").glob("*.parquet"))
    return bool(shards) and len(done) == len(shards)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
