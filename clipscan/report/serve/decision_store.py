"""RUN/decisions.json: what the page saves while it is served, as `clipscan export --decisions` takes it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipscan.data.atomic import replacing
from clipscan.errors import DataError

NAME = "decisions.json"
WORDS = ("drop", "keep", "unsure")

Pair = tuple[str, str]
State = tuple[int, int, int] | None  # of a file: inode, time of change, size


class Outdated(Exception):
    """Another window, or another server on the same run, has saved in the meantime."""


class DecisionStore:
    """The file, in memory too. revision: counts the saves, and the changes from outside that were read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.revision = 0
        self.value: dict[str, Any] | None = None
        self._state: State = None
        self._lock = threading.Lock()
        self._read()

    def latest(self) -> tuple[int, dict[str, Any] | None]:
        """(revision, value), read anew where another process has written the file. DataError where that is
        none of decisions."""
        with self._lock:
            if _state(self.path) != self._state:
                self._read()
                self.revision += 1
            return self.revision, self.value

    def words(self) -> dict[Pair, str]:
        """(shard, key) -> drop, keep or unsure."""
        listed = self.value["decisions"] if self.value else []
        return {(one["shard"], one["key"]): one["decision"] for one in listed}

    def save(self, body: bytes, revision: int) -> int:
        """Write the page's value, by rename; the new revision. DataError for what is none, Outdated where
        the page did not know the last revision, or the file is not the one that was last read or
        written here."""
        try:
            value = checked(json.loads(body))
            text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as broken:  # half a surrogate pair cannot be encoded
            raise DataError(f"no JSON: {broken}") from broken
        with self._lock, _held(self.path.parent):
            if revision != self.revision or _state(self.path) != self._state:
                raise Outdated
            with replacing(self.path, synced=False) as (draft,):
                draft.write_bytes(text)
            self.value, self._state = value, _state(self.path)
            self.revision += 1
            return self.revision

    def _read(self) -> None:
        self._state = _state(self.path)  # before reading: what is written meanwhile is seen as a change
        try:
            text = self.path.read_text(encoding="utf-8")
            self.value = checked(json.loads(text))
        except FileNotFoundError:
            self.value = None
        except (ValueError, RecursionError) as broken:
            raise DataError(f"{self.path} is no JSON: {broken}; move it away to decide anew") from broken


def _state(path: Path) -> State:
    """What differs after every save; None without a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Inside, no other server saves in the folder, where the file system has locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def checked(value: Any) -> dict[str, Any]:
    """The value, if it is one of decisions. DataError otherwise."""
    if not isinstance(value, dict) or value.get("clipscan") != "decisions" or value.get("version") != 1:
        raise DataError("not decisions as the page saves them, version 1")
    listed = value.get("decisions")
    if not isinstance(listed, list) or not all(map(_is_decision, listed)):
        raise DataError("its decisions are no list of shard, key and drop, keep or unsure")
    border = value.get("border")
    if border is not None and not (isinstance(border, dict) and _is_finite(border.get("threshold"))):
        raise DataError("its border is no object with a finite number, threshold")
    return value


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_decision(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("shard"), str)
        and isinstance(one.get("key"), str)
        and one.get("decision") in WORDS
    )
