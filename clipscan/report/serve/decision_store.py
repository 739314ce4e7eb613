"""RUN/decisions.json: what the page saves while it is served, as `clipscan export --decisions` takes it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from clipscan.data.atomic import replacing
from clipscan.errors import DataError

NAME = "decisions.json"
WORDS = ("drop", "keep", "unsure")

Pair = tuple[str, str]


class Outdated(Exception):
    """Another window has saved in the meantime."""


class DecisionStore:
    """The file, in memory too. revision: how often it was saved since the server started."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.revision = 0
        self._lock = threading.Lock()
        self.value = checked(_read(self.path)) if self.path.exists() else None

    def words(self) -> dict[Pair, str]:
        """(shard, key) -> drop, keep or unsure."""
        listed = self.value["decisions"] if self.value else []
        return {(one["shard"], one["key"]): one["decision"] for one in listed}

    def save(self, body: bytes, revision: int) -> int:
        """Write the page's value, by rename; the new revision. DataError for what is none, Outdated where
        the page did not know the last revision."""
        try:
            value = checked(json.loads(body))
        except (ValueError, RecursionError) as broken:
            raise DataError(f"no JSON: {broken}") from broken
        with self._lock:
            if revision != self.revision:
                raise Outdated
            with replacing(self.path, synced=False) as (draft,):
                draft.write_text(json.dumps(value), encoding="utf-8")
            self.value = value
            self.revision += 1
            return self.revision


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as broken:
        raise DataError(f"{path} is no JSON: {broken}; move it away to decide anew") from broken


def checked(value: Any) -> dict[str, Any]:
    """The value, if it is one of decisions. DataError otherwise."""
    if not isinstance(value, dict) or value.get("clipscan") != "decisions" or value.get("version") != 1:
        raise DataError("not decisions as the page saves them, version 1")
    listed = value.get("decisions")
    if not isinstance(listed, list) or not all(map(_is_decision, listed)):
        raise DataError("its decisions are no list of shard, key and drop, keep or unsure")
    return value


def _is_decision(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("shard"), str)
        and isinstance(one.get("key"), str)
        and one.get("decision") in WORDS
    )
