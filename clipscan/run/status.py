"""How far a run has come, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from clipscan.run.files import read_json
from clipscan.run.folder import STAGES, RunFolder, run_record


class StageStatus(NamedTuple):
    """`done` of `total` tasks, and the seconds that the finished ones took."""

    stage: str
    done: int
    total: int
    seconds: float


def status(path: str | Path) -> list[StageStatus]:
    """The stages of a run in order. RunError where there is no run."""
    run = RunFolder(path)
    record = run_record(path)
    shards = len(record.get("dataset", {}).get("shards", []))
    empty = sum(
        read_json(run / f"_tasks/embed-{shard:05d}.json").get("embedded") == 0 for shard in range(shards)
    )
    found = []
    trusted = record.get("asked", {}).get("trusted", {}).get("model")
    for stage in (stage for stage in STAGES[:-1] if stage != "trusted" or trusted):
        markers = [read_json(marker) for marker in (run / "_tasks").glob(f"{stage}-*.json")]
        total = 0 if stage == "graph" and record.get("graph", {}).get("skipped") else shards
        total -= empty if total and stage != "embed" else 0
        found.append(StageStatus(stage, len(markers), total, sum(m.get("seconds", 0) for m in markers)))
    finished = all(
        (run / name).exists() for name in ("suspects.parquet", "drop.parquet", "report/index.html")
    )
    return [*found, StageStatus("select", int(finished), 1, 0.0)]
