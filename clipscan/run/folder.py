"""The run folder: where things lie, what was asked, what is finished.

A task is a piece of a stage with its own outputs and a done marker `_tasks/NAME.json`, written last. The
marker holds a fingerprint of all that decides the outputs; a task whose marker matches is finished.
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
from clipscan.data.atomic import sweep
from clipscan.errors import RunError
from clipscan.run.files import read_json, write_json
from clipscan.run.lock import exclusive

# In the order of work: each may read what came before.
STAGES = ("embed", "trusted", "graph", "score", "select")

# What a stage leaves behind, so that --overwrite can clear it together with all later stages.
OUTPUTS = {
    "embed": ("embeddings", "bad.parquet", "listing.parquet"),
    "trusted": ("trusted", "partition"),  # which may be by its cosines
    "graph": ("neighbors",),
    "score": ("scores", "calibration.parquet"),
    "select": (
        "suspects.parquet", "groups.parquet", "drop.parquet", "keep.txt", "drop.txt", "keep_uids.npy",
        "report", "invert",
    ),
}  # fmt: skip


class RunFolder:
    """Paths and bookkeeping of one run; knows nothing of what the stages compute."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def record(self) -> dict[str, Any]:
        """run.json; {} before the first stage."""
        return read_json(self / "run.json")

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

    def scores(self, shard: int) -> Path:
        return self / f"scores/scores_{shard:05d}.parquet"

    def ask(self, stage: str, settings: dict[str, Any], overwrite: bool) -> None:
        """Record what a stage was asked; refuse other settings than those its results were made with.

        With `overwrite` results of other settings are removed, and those of all later stages.
        """
        known = self.record.get("asked", {}).get(stage)
        settings = json.loads(json.dumps(settings))  # as it will be read again
        if known is not None and known != settings:
            changed = [name for name in sorted(known | settings) if known.get(name) != settings.get(name)]
            differences = "; ".join(
                f"{n}: {known.get(n)!r} there, {settings.get(n)!r} asked" for n in changed
            )
            if not overwrite:
                raise RunError(
                    f"{self.path} holds results of other settings ({differences}). Use another --out, or "
                    f"--overwrite to redo the {stage} stage and what follows from it"
                )
            self.clear(stage)
        if known != settings:
            self.path.mkdir(parents=True, exist_ok=True)
            self.update(asked={stage: settings})

    def clear(self, first: str) -> None:
        """Remove the results of a stage and of all later ones; the graph asks no trusted model, and stays."""
        later = STAGES[STAGES.index(first) :]
        gone = [stage for stage in later if (first, stage) != ("trusted", "graph")]
        for stage in gone:
            for marker in (self / "_tasks").glob(f"{stage}-*.json"):
                marker.unlink()
            for name in OUTPUTS[stage]:
                path = self / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        record = self.record
        record["asked"] = {k: v for k, v in record.get("asked", {}).items() if k not in gone}
        write_json(self / "run.json", record)

    def finished(self, task: str, fingerprint: str) -> dict[str, Any] | None:
        """The marker of a task that ran to its end with this very fingerprint, else None."""
        marker = read_json(self / f"_tasks/{task}.json")
        return marker if marker.get("fingerprint") == fingerprint else None

    def task(self, task: str, fingerprint: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do the task unless it is finished; returns its marker: counts from `work`, seconds, fingerprint."""
        if marker := self.finished(task, fingerprint):
            return marker
        began = time.monotonic()
        marker = work() | {"seconds": round(time.monotonic() - began, 3), "fingerprint": fingerprint}
        write_json(self / f"_tasks/{task}.json", marker)
        return marker

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Two processes in one run folder would each redo the other's work; the second is told so.

        What killed processes were about to write is removed.
        """
        with exclusive(self.path):
            sweep(self.path)
            yield


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
