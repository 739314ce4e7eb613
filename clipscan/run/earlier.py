"""What an earlier call made of shards that are still the same, kept when the dataset around them changes.

Vectors are numbered like the shards, and a new shard may sort in the middle. So everything is put aside in
RUN/_earlier and comes back a shard at a time under its new number; after a kill at any moment it is still
there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from clipscan.data.atomic import replacing
from clipscan.run.file_io import read_json, write_json
from clipscan.run.markers import Damaged, check_intact, read_marker
from clipscan.run.run_folder import DEFINITIONS, RunFolder

FOLDER = "_earlier"
MADE = ("seconds", "fingerprint", "files", "definition", "asked")  # what every task adds to its marker
STAGES = {
    # The metadata stands for all, and comes last.
    "embed": ("image", "text", "untrained_file", "bad", "listing", "metadata"),
    "trusted": ("trusted",),
}


def put_aside(run: RunFolder, same: AbstractSet[str]) -> None:
    """Move vectors aside, and the markers of the shards `same`; what a killed call put there before is kept
    instead. The others may have the very size and time of before, and never come back."""
    folder = run / FOLDER
    if not (folder / "embeddings").exists():
        shutil.rmtree(folder / "_tasks", ignore_errors=True)  # of a call that was killed just here
        folder.mkdir(exist_ok=True)
        numbers = [i for i, name in enumerate(run.record["dataset"]["shards"]) if name in same]
        for task in (f"{stage}-{number:05d}" for stage in STAGES for number in numbers):
            if marker := read_marker(run.path, task):
                write_json(folder / "_tasks" / f"{task}.json", marker)
        for name in ("trusted", "embeddings"):  # the vectors last: from then on the rest is complete
            if (run / name).exists():
                os.replace(run / name, folder / name)


class Earlier:
    """The finished tasks of one stage that lie aside, by fingerprint."""

    def __init__(self, run: RunFolder, stage: str) -> None:
        self.run, self.stage = run, stage
        self.folder = RunFolder(run / FOLDER)
        markers = sorted((self.folder / "_tasks").glob(f"{stage}-*.json"))
        self.markers = {
            marker["fingerprint"]: (path, marker) for path in markers if (marker := read_json(path))
        }

    def bring(self, fingerprint: str, number: int) -> dict[str, Any] | None:
        """The outputs of the task with this fingerprint, under a new number, and its counts; None without,
        and where they are damaged or of another definition."""
        if fingerprint not in self.markers:
            return None
        path, marker = self.markers[fingerprint]
        if marker.get("definition") != DEFINITIONS[self.stage]:
            return None
        try:
            check_intact(*(self.folder / name for name in marker.get("files", {})))
        except Damaged:
            return None
        old = int(path.stem.rpartition("-")[2])
        for name in STAGES[self.stage]:
            there, here = (getattr(folder, name) for folder in (self.folder, self.run))
            if there(old).exists():
                with replacing(here(number)) as (draft,):
                    _link(there(old), draft)
        return {name: value for name, value in marker.items() if name not in MADE}


def forget(run: RunFolder, stage: str) -> None:
    """After the last stage that takes from what lies aside: remove it."""
    if stage == "trusted" or not (run / FOLDER / "trusted").exists():
        shutil.rmtree(run / FOLDER, ignore_errors=True)


def _link(there: Path, here: Path) -> None:
    """A second name; a copy where the file system has none."""
    try:
        os.link(there, here)
    except OSError:
        shutil.copyfile(there, here)
