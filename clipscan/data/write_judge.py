"""Who stays, who goes, and where a name may be written. Shared by the writers of all layouts."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from clipscan.data.sample import Bad, Sample
from clipscan.errors import DataError


class Counts(NamedTuple):
    """What became of the samples: kept + dropped = good ones and those named; bad = the other unreadable."""

    kept: int
    dropped: int
    bad: int  # left out, or copied as they lie with drop_bad=False


class Judge:
    """Says of each record whether it stays, and counts."""

    def __init__(self, drop: AbstractSet[tuple[str, str]], drop_bad: bool) -> None:
        self._drop = drop
        self._drop_bad = drop_bad
        self._kept = self._dropped = self._bad = 0

    def keeps(self, shard: str, key: str, outcome: Sample | Bad | None) -> bool:
        """Does it stay? Counts it. What is no sample stays."""
        if outcome is None:
            return True
        if (shard, key) in self._drop:
            self._dropped += 1
            return False
        if isinstance(outcome, Bad):
            self._bad += 1
            return not self._drop_bad
        self._kept += 1
        return True

    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(self._kept, self._dropped, self._bad)


def target(folder: Path, name: str) -> Path:
    """Where `name` goes inside `folder`, its parents made; DataError if it would leave it."""
    parts = name.split("/")
    if not name or "\0" in name or os.path.isabs(name) or any(part in ("", ".", "..") for part in parts):
        raise DataError(f"refusing to write {name!r}: the name leads out of the target folder")
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
