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
from clipscan.run.learning import learnt_words
from clipscan.run.outputs import Damaged, sound
from clipscan.run.run_folder import run_record
from clipscan.scores.estimate import Estimate


def summary(run: Path) -> list[str]:
    """Counts, suspects, groups and drop list of a run, as far as it has come; and what to do next, or what
    mends it where one of these files is damaged."""
    counted = [*_counted(run_record(run))]
    try:
        sound(*(run / f"{name}.parquet" for name in ("suspects", "groups", "drop")))
    except Damaged as damage:
        return [*counted, str(damage)]
    return [*counted, *_learnt(run), *_found(run), *_next(run)]


def _counted(record: dict[str, Any]) -> Iterator[str]:
    counts = record.get("counts", {})
    if "listed" in counts:
        listed, embedded, bad = (counts.get(name, 0) for name in ("listed", "embedded", "bad"))
        yield f"{listed:,} listed = {embedded:,} embedded + {bad:,} bad" + (" (bad.parquet)" if bad else "")


def _learnt(run: Path) -> Iterator[str]:
    """What the model has learnt of these pairs, once they are scored: whether finding nothing means
    anything."""
    yield from filter(None, learnt_words(run_record(run)))


def _found(run: Path) -> Iterator[str]:
    """Suspects, which are to be looked at; what is dropped is reported apart from them."""
    if (run / "suspects.parquet").exists():
        suspects = pq.read_metadata(run / "suspects.parquet").num_rows
        yield f"{_many(suspects, 'suspect')} to look at, the most suspicious first (suspects.parquet)"
    if (run / "groups.parquet").exists():
        kinds = pq.read_table(run / "groups.parquet", columns=["kind"])["kind"].to_pylist()
        convicted = convicted_of(run) or []
        yield from (f"convicted: {one.words()}" for one in convicted)
        others = _many(kinds.count("suspects") - len(convicted), "other group" if convicted else "group")
        yield (
            f"{others} of suspects whose captions say the same, "
            f"{_many(kinds.count('copies'), 'group')} of near-copies (groups.parquet)"
        )
    if (run / "drop.parquet").exists():
        yield _dropped(run)


def _dropped(run: Path) -> str:
    """How many are dropped, and by which rule."""
    record = run_record(run)
    dropped = pq.read_metadata(run / "drop.parquet").num_rows
    kept = record.get("counts", {}).get("embedded", dropped) - dropped
    rule = rule_of_run(run)
    words = in_words(rule, method_of(record))
    if "apart" in rule and "estimate" in record:
        words = estimate_words(Estimate.of(record["estimate"]), convicted_of(run))
    return f"{dropped:,} to drop, {kept:,} to keep (drop.parquet, keep.txt)" + (f": {words}" if words else "")


def dropped_before(run: Path) -> str:
    """The drop list as it is, in words: how many by which rule; "" where it names no pair or is damaged."""
    path = run / "drop.parquet"
    try:
        sound(path)
    except Damaged:
        return ""
    dropped = pq.read_metadata(path).num_rows if path.exists() else 0
    words = in_words(rule_of_run(run), method_of(run_record(run)))
    return f"{dropped:,} dropped" + (f", {words}" if words else "") if dropped else ""


def _next(run: Path) -> Iterator[str]:
    name = shlex.quote(str(run))
    if not (run / "drop.parquet").exists():
        yield f"next: clipscan score {name}" if _embedded(run) else "next: the same command again; it goes on"
        return
    if (run / "report/index.html").exists():
        yield f"look at {run / 'report/index.html'}"
    if pq.read_metadata(run / "drop.parquet").num_rows:
        yield f"next: clipscan apply {name} --to DIR"
    else:
        yield f"to drop some all the same: clipscan export {name} --fraction 0.01, or --decisions my.csv"


def _embedded(run: Path) -> bool:
    """Whether every shard has its vectors."""
    shards = run_record(run).get("dataset", {}).get("shards", [])
    done = list((run / "embeddings/metadata").glob("*.parquet"))
    return bool(shards) and len(done) == len(shards)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
