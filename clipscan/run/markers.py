"""What every task of a run writes, and whether that is still what it wrote.

The marker of a task, `_tasks/NAME.json`, holds size and digest of each of its files. Sizes are looked at
whenever a task is asked for; digests before anything is derived from a file of an earlier call, once for each
process. The task of a damaged file counts as not done any more, so that the right stage makes it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from clipscan.errors import RunError
from clipscan.run.file_io import read_json, write_json

TASKS = "_tasks"
# Names of tasks and of their files under the run folder; {} is the number of a shard.
FILES = {
    "embed-{}": (
        "embeddings/img_emb/img_emb_{}.npy", "embeddings/text_emb/text_emb_{}.npy",
        "embeddings/untrained/untrained_{}.npy",
        "embeddings/bad/bad_{}.parquet", "embeddings/listing/listing_{}.parquet",
        "embeddings/metadata/metadata_{}.parquet",
    ),
    "embed": ("bad.parquet", "listing.parquet"),
    "trusted-{}": ("trusted/trusted_{}.npy",),
    "partition": tuple(
        f"partition/{name}" for name in (
            "partition.parquet", "partition.json", "risky.parquet", "safe.parquet", "risky.txt", "safe.txt",
            "safe_uids.npy",
        )
    ),
    "graph-{}": ("neighbors/distance_{}.npy", "neighbors/index_{}.npy"),
    "score-{}": ("scores/scores_{}.parquet",),
    "retrieval": (),  # its figures are in its marker, and in run.json
    "calibration": ("calibration.parquet",),
    "select-00000": ("suspects.parquet", "groups.parquet"),
    "lists": ("drop.parquet", "keep.txt", "drop.txt", "keep_uids.npy"),
    "page": ("report/index.html",),
}  # fmt: skip
TASK_OF = {file: task for task, files in FILES.items() for file in files}
NUMBER = re.compile(r"\d{5,}")
AGAIN = {
    "embed": "clipscan scan (or embed), called as before, makes it again",
    "trusted": "clipscan scan (or embed), called as before, makes it again",
    "partition": "clipscan partition makes it again",
    "calibration": "clipscan calibrate makes it again",
    "lists": "clipscan export makes it again",
    "page": "clipscan report makes it again",
}
BY_SCORE = "clipscan score (or scan), called as before, makes it again"
DIGEST_BYTES = 16

_known: set[tuple[str, int, int, int]] = set()  # files that this process made or looked through


class Damage(NamedTuple):
    """A file of a run, the task that made it, and what is wrong."""

    path: Path
    task: str
    what: str

    @property
    def stage(self) -> str:
        return self.task.partition("-")[0]

    def words(self) -> str:
        return f"{self.path} {self.what}; {AGAIN.get(self.stage, BY_SCORE)}"


class Damaged(RunError):
    """Files of a run are not what their tasks wrote."""

    def __init__(self, found: list[Damage]) -> None:
        self.found = found
        self.stages = {damage.stage for damage in found}
        more = f" ({len(found) - 1} more files are damaged)" if len(found) > 1 else ""
        super().__init__(found[0].words() + more)


def task_files(folder: Path, task: str) -> list[Path]:
    """All files that a task may write."""
    number = NUMBER.search(task)
    named = FILES.get(task) or FILES[task.replace(number[0], "{}") if number else task]
    return [folder / name.format(number[0] if number else "") for name in named]


def read_marker(folder: Path, task: str) -> dict[str, Any]:
    """The marker of a task; {} where there is none, or none that can be read: it is done again then."""
    try:
        marker = read_json(folder / TASKS / f"{task}.json")
    except RunError:
        return {}
    return marker if _names_files(marker.get("files", {})) else {}


def _names_files(files: Any) -> bool:
    """Whether it is what write_marker keeps of files: {name: [size, digest]}."""
    return isinstance(files, dict) and all(
        isinstance(one, list) and [type(part) for part in one] == [int, str] for one in files.values()
    )


def write_marker(folder: Path, task: str, fingerprint: str, said: dict[str, Any]) -> dict[str, Any]:
    """The task is done: its marker, with size and digest of all files of it that are there."""
    files = {}
    for path in task_files(folder, task):
        if path.exists():
            files[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest(path)]
            _known.add(_identity(path))
    marker = said | {"files": files, "fingerprint": fingerprint}
    of_shard = NUMBER.search(task) is not None  # lost in a power cut, it is done again
    write_json(folder / TASKS / f"{task}.json", marker, synced=not of_shard)
    return marker


def reseal(path: Path) -> None:
    """A file was written anew outside its task, from what it held and more."""
    run, task, name = owner(path)
    marker = read_marker(run, task) if task else {}
    if name in marker.get("files", {}):
        marker["files"][name] = [path.stat().st_size, digest(path)]
        write_json(run / TASKS / f"{task}.json", marker)


def begin_marker(folder: Path, task: str, said: dict[str, Any]) -> None:
    """The task is under way, and its files may be of this call or of an earlier one."""
    write_json(folder / TASKS / f"{task}.json", said | {"files": {}, "fingerprint": None})


def tasks(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tasks of a run that have a marker, by name."""
    for path in sorted((folder / TASKS).glob("*.json")):
        yield path.stem, read_marker(folder, path.stem)


def whole(folder: Path, marker: dict[str, Any]) -> bool:
    """Whether all files of a task are there and have their size."""
    return all(_size(folder / name) == size for name, (size, _) in marker.get("files", {}).items())


def damages(folder: Path) -> list[Damage]:
    """All files of a run that are damaged; reads every one that this process has not read through yet."""
    found = []
    for task, marker in tasks(folder):
        for name, (size, made) in marker.get("files", {}).items():
            if what := _wrong(folder / name, size, made):
                found.append(Damage(folder / name, task, what))
    return found


def check_intact(*paths: Path, deep: bool = True) -> None:
    """Damaged where one of the files of a run is not what its task wrote; before anything is derived of it.

    deep: look at digests, not only at sizes. Files that no marker lists pass; their reader reports a
    missing one.
    """
    found = []
    for path in paths:
        run, task, name = owner(path)
        made = read_marker(run, task).get("files", {}).get(name) if task else None
        if made and (what := _wrong(path, made[0], made[1], deep)):
            found.append(Damage(path, task, what))
    refuse(found)


def rows_in(path: Path) -> int:
    """Rows of a parquet file, by its footer. Damaged where it cannot be read and is not what was written."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError):  # pyarrow's own errors are both
        check_intact(path)
        raise


def complete(folder: Path, stage: str, under: str = "") -> None:
    """Damaged where a file that the tasks of a stage wrote below `under` is gone or has another size; before
    those that are there are taken for all."""
    refuse(
        Damage(folder / name, task, what)
        for task, marker in tasks(folder)
        if task.startswith(f"{stage}-")
        for name, (size, made) in marker.get("files", {}).items()
        if name.startswith(under) and (what := _wrong(folder / name, size, made, deep=False))
    )


def refuse(found: Iterable[Damage]) -> None:
    """Undo the tasks of damaged files, and raise Damaged; nothing where there are none."""
    if found := list(found):
        undo(found)
        raise Damaged(found)


def undo(found: Iterable[Damage]) -> None:
    """The tasks of damaged files count as not done; what their files were stays known."""
    for path, task, _ in found:
        run = owner(path)[0]
        with suppress(RunError):  # of a folder that can only be read; its owner will find the same
            if (marker := read_marker(run, task)).get("fingerprint") is not None:
                write_json(run / TASKS / f"{task}.json", marker | {"fingerprint": None})


def owner(path: Path) -> tuple[Path, str, str]:
    """(run folder, task, name there) of a file; the task is "" where it is no file of a run's task."""
    for run in list(path.absolute().parents)[:3]:
        name = path.absolute().relative_to(run).as_posix()
        number = NUMBER.search(name)
        pattern = name.replace(number[0], "{}") if number else name
        if pattern in TASK_OF and (run / TASKS).is_dir():
            return run, TASK_OF[pattern].format(number[0] if number else ""), name
    return path.parent, "", path.name


def digest(path: Path) -> str:
    """Of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def _wrong(path: Path, size: int, made: str, deep: bool = True) -> str:
    """What is wrong with a file; "" for nothing."""
    if (now := _size(path)) != size:
        return "is gone" if now is None else f"has {now:,} bytes, and was written with {size:,}"
    if deep and (identity := _identity(path)) not in _known:
        if digest(path) != made:
            return "has changed since it was written"
        _known.add(identity)
    return ""


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _identity(path: Path) -> tuple[str, int, int, int]:
    about = path.stat()
    return str(path.absolute()), about.st_size, about.st_mtime_ns, about.st_ino
