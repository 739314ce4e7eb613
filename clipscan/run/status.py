"""How far a run has come, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from clipscan.run.markers import Damage, damages, read_marker, tasks, undo, whole
from clipscan.run.run_folder import STAGES, RunFolder, run_record


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
    empty = sum(read_marker(run.path, f"embed-{shard:05d}").get("embedded") == 0 for shard in range(shards))
    made = {task: marker for task, marker in tasks(run.path) if _done(run, marker)}
    found = []
    trusted = record.get("asked", {}).get("trusted", {}).get("model")
    for stage in (stage for stage in STAGES[:-1] if stage != "trusted" or trusted):
        markers = [marker for task, marker in made.items() if task.startswith(f"{stage}-")]
        total = 0 if stage == "graph" and record.get("graph", {}).get("skipped") else shards
        total -= empty if total and stage != "embed" else 0
        found.append(StageStatus(stage, len(markers), total, sum(m.get("seconds", 0) for m in markers)))
    finished = {"select-00000", "lists", "page"} <= made.keys()
    return [*found, StageStatus("select", int(finished), 1, 0.0)]


def verify(path: str | Path) -> list[Damage]:
    """The files of a run that are not what was written, by every byte; their tasks count as undone from now
    on, where the folder can be written, so that they are made again. RunError where there is no run."""
    run_record(path)
    found = damages(Path(path))
    undo(found)
    return found


def _done(run: RunFolder, marker: dict[str, Any]) -> bool:
    return marker.get("fingerprint") is not None and whole(run.path, marker)
