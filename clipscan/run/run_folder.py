"""The run folder: where things lie, what was asked, what is finished.

A task is a piece of a stage with its own outputs and a done marker `_tasks/NAME.json`, written last. The
marker holds a fingerprint of all that decides the outputs, and their sizes and digests (markers.py); a task
whose marker matches is finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clipscan
from clipscan.data.atomic import refusals, sweep
from clipscan.errors import RunError
from clipscan.run.check_record import misshapen
from clipscan.run.file_io import read_json, write_json
from clipscan.run.lock import exclusive
from clipscan.run.markers import TASKS, read_marker, task_files, tasks, whole, write_marker

# In the order of work: each may read what came before.
STAGES = ("embed", "trusted", "graph", "score", "select")

# What a stage computes: raise its number with any change that gives other results for the same settings.
# Runs that were embedded before there were untrained features stay at 1: their vectors are the same.
DEFINITIONS = {"embed": 1, "trusted": 1, "graph": 1, "score": 8, "select": 3}

# What goes with a stage when --overwrite clears it and all later ones: tasks, and what else lies there.
TASKS_OF = {
    "embed": ("embed-*", "embed"),
    "trusted": ("trusted-*", "partition"),  # which may be by its cosines
    "graph": ("graph-*",),
    "score": ("score-*", "calibration", "retrieval"),
    "select": ("select-*", "lists", "page"),
}
OUTPUTS = {
    "embed": ("embeddings", "bad.parquet", "listing.parquet"),
    "trusted": ("trusted", "partition"),
    "graph": ("neighbors",),
    "score": ("scores", "calibration.parquet"),
    "select": (
        "suspects.parquet", "groups.parquet", "drop.parquet", "keep.txt", "drop.txt", "keep_uids.npy",
        "report", "invert",
    ),
}  # fmt: skip


SCAN_AS_BEFORE = "scan as before then, and nothing that is finished is done twice"


class RunFolder:
    """Paths and bookkeeping of one run, whatever its stages compute."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._asked: dict[str, str] = {}  # stage -> digest of what it was asked

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def record(self) -> dict[str, Any]:
        """run.json; {} before the first stage."""
        path = self / "run.json"
        try:
            record = read_json(path)
        except RunError as broken:
            raise RunError(f"{broken}: {SCAN_AS_BEFORE}") from broken
        if wrong := misshapen(record):
            raise RunError(f"{path}: {wrong}; remove it to have it made again: {SCAN_AS_BEFORE}")
        return record

    def update(self, **sections: Any) -> None:
        """Merge top-level sections into run.json; dicts are merged one level deep."""
        record = self.record or {"clipscan": clipscan.__version__}
        for name, value in sections.items():
            if isinstance(value, dict) and isinstance(record.get(name), dict):
                value = record[name] | value
            record[name] = value
        write_json(self / "run.json", record)

    # One array or table a shard, numbered like the shards.

    def image(self, shard: int) -> Path:
        return self / f"embeddings/img_emb/img_emb_{shard:05d}.npy"

    def text(self, shard: int) -> Path:
        return self / f"embeddings/text_emb/text_emb_{shard:05d}.npy"

    def untrained_file(self, shard: int) -> Path:
        return self / f"embeddings/untrained/untrained_{shard:05d}.npy"

    def metadata(self, shard: int) -> Path:
        return self / f"embeddings/metadata/metadata_{shard:05d}.parquet"

    def bad(self, shard: int) -> Path:
        return self / f"embeddings/bad/bad_{shard:05d}.parquet"

    def listing(self, shard: int) -> Path:
        return self / f"embeddings/listing/listing_{shard:05d}.parquet"

    def trusted(self, shard: int) -> Path:
        return self / f"trusted/trusted_{shard:05d}.npy"

    def distance(self, shard: int) -> Path:
        return self / f"neighbors/distance_{shard:05d}.npy"

    def index(self, shard: int) -> Path:
        return self / f"neighbors/index_{shard:05d}.npy"

    def scores_file(self, shard: int) -> Path:
        return self / f"scores/scores_{shard:05d}.parquet"

    def ask(self, stage: str, settings: dict[str, Any], overwrite: bool, **beside: Any) -> None:
        """Record the settings of a stage. RunError if its results were made with other settings, or by
        another definition of the stage.

        With `overwrite` such results are removed, and those of all later stages. beside: what else run.json
        says from the same moment on.
        """
        record = self.record
        known = record.get("asked", {}).get(stage)
        settings = json.loads(json.dumps(settings))  # as it will be read again
        self._asked[stage] = fingerprint(settings, DEFINITIONS[stage])
        if other := self._other_results(stage, settings, record):
            if not overwrite:
                raise RunError(
                    f"{self.path} holds results of {other}. Use another --out, or --overwrite to redo the "
                    f"{stage} stage and what follows from it"
                )
            self.clear(stage)
        if other or known != settings:
            beside |= {
                "asked": {stage: settings}, "definitions": {stage: DEFINITIONS[stage]},
                "made_by": {stage: clipscan.__version__},
            }  # fmt: skip
        if beside:
            self.update(**beside)

    def _other_results(self, stage: str, settings: dict[str, Any], record: dict[str, Any]) -> str:
        """What the results here were made with, where it is not what is asked now; "" for nothing else."""
        known = record.get("asked", {}).get(stage)
        if known is None:  # run.json is lost, or was never written: the markers hold digests only
            made = [marker for task, marker in tasks(self.path) if task.startswith(f"{stage}-")]
            otherwise = any(marker.get("asked") != self._asked[stage] for marker in made)
            return "other settings, which are not known as run.json is gone" if otherwise else ""
        changed = [name for name in sorted(known | settings) if known.get(name) != settings.get(name)]
        if changed:
            there = (f"{n}: {known.get(n)!r} there, {settings.get(n)!r} asked" for n in changed)
            return f"other settings ({'; '.join(there)})"
        if record.get("definitions", {}).get(stage) != DEFINITIONS[stage]:
            by = record.get("made_by", {}).get(stage, record.get("clipscan"))
            return f"clipscan {by}, whose {stage} stage computes otherwise than in {clipscan.__version__}"
        return ""

    def clear(self, first: str) -> None:
        """Remove the results of a stage and of all later ones; the graph does not depend on the trusted
        model, and stays."""
        later = STAGES[STAGES.index(first) :]
        gone = [stage for stage in later if (first, stage) != ("trusted", "graph")]
        for stage in gone:
            for pattern in TASKS_OF[stage]:
                for marker in (self / TASKS).glob(f"{pattern}.json"):
                    marker.unlink()
            for name in OUTPUTS[stage]:
                path = self / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        record = self.record
        record["asked"] = {k: v for k, v in record.get("asked", {}).items() if k not in gone}
        write_json(self / "run.json", record)

    def forget_beyond(self, shards: int) -> None:
        """Remove what is of shards that there are no longer: of a run whose run.json is lost."""
        for task, _ in tasks(self.path):
            number = task.rpartition("-")[2]
            if number.isdigit() and int(number) >= max(shards, 1):
                for path in task_files(self.path, task):
                    path.unlink(missing_ok=True)
                (self / TASKS / f"{task}.json").unlink()

    def finished(self, task: str, fingerprint: str) -> dict[str, Any] | None:
        """The marker of a task that ran to its end with this very fingerprint, else None; None too where one
        of its files is gone or has another size."""
        marker = read_marker(self.path, task)
        same = marker.get("fingerprint") == fingerprint and marker.get("definition") == _definition(task)
        return marker if same and whole(self.path, marker) else None

    def task(self, task: str, fingerprint: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do the task unless it is finished; returns its marker: counts from `work`, seconds, its files with
        size and digest, fingerprint. What an earlier call left of the task is removed first."""
        if marker := self.finished(task, fingerprint):
            return marker
        for path in task_files(self.path, task):
            with refusals(path):
                path.unlink(missing_ok=True)
        began = time.monotonic()
        said = work()
        said |= {"seconds": round(time.monotonic() - began, 3), "definition": _definition(task)}
        return write_marker(self.path, task, fingerprint, said | {"asked": self._asked.get(_stage(task))})

    def contents(self, stage: str, *under: str) -> str:
        """Digest of what the tasks of a stage wrote, of files below `under` or of all: ties to them what is
        made of them."""
        made = {
            name: digest
            for task, marker in tasks(self.path) if _stage(task) == stage
            for name, (_, digest) in marker.get("files", {}).items() if not under or name.startswith(under)
        }  # fmt: skip
        return fingerprint(made)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Inside, no other process works in the run folder: each would redo the work of the other. RunError
        if one does.

        What killed processes were about to write is removed.
        """
        with exclusive(self.path):
            sweep(self.path)
            yield


def _stage(task: str) -> str:
    return task.partition("-")[0]


def _definition(task: str) -> int | None:
    return DEFINITIONS.get(_stage(task))


def run_record(path: str | Path) -> dict[str, Any]:
    """run.json of a run folder. RunError where `path` is none."""
    record = RunFolder(path).record
    if not record:
        raise RunError(f"{path} holds no run.json; make it with: clipscan scan DATASET --out {path}")
    return record


def fingerprint(*parts: Any) -> str:
    """A digest of JSON-able parts: equal parts, equal digest, in any process."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
