"""Which samples stay, which go, and where a name may be written. Shared by the writers of all layouts."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from clipscan.data.dataset import Dataset, Shard
from clipscan.data.sample import Bad, Sample
from clipscan.errors import DataError

Pair = tuple[str, str]  # shard, key
NAMED = 3  # pairs that a message names


class Counts(NamedTuple):
    """What became of the samples, as it was done; together they are all that the shards written list."""

    kept: int
    dropped: int  # of those named
    bad: (
        int  # not named, and unreadable or never scanned: left out, or copied as they lie with drop_bad=False
    )
    left_out: tuple[str, ...] = ()  # files that are not as they were scanned


class Judge:
    """Says of each record whether it stays, and counts.

    scanned: the keys of a shard's samples that may stay; None: all that can be read.
    """

    def __init__(
        self,
        drop: AbstractSet[Pair],
        drop_bad: bool,
        scanned: Callable[[Shard], AbstractSet[str]] | None = None,
    ) -> None:
        self._drop, self._drop_bad, self._scanned = drop, drop_bad, scanned
        self._shard, self._known = "", set[str]()  # the shard in hand, and its scanned keys yet to come
        self._unmet, self._lost = set(drop), set[Pair]()
        self._kept = self._dropped = self._bad = 0

    def begin(self, shard: Shard) -> None:
        """The records that follow are this shard's."""
        self._close()
        self._shard, self._known = shard.name, set(self._scanned(shard)) if self._scanned else set()

    def keeps(self, shard: str, key: str, outcome: Sample | Bad | None) -> bool:
        """Does it stay? Counts it. What is no sample stays.

        A bad one may have the name of a good one that is named or scanned: it does not stand for that one.
        """
        if outcome is None:
            return True
        named = (shard, key) in self._drop
        if named and (
            isinstance(outcome, Sample) or (key not in self._known and (shard, key) in self._unmet)
        ):
            self._unmet.discard((shard, key))
            self._known.discard(key)
            self._dropped += 1
            return False
        if isinstance(outcome, Bad) or (self._scanned and key not in self._known):
            self._bad += 1
            return not self._drop_bad and not named
        self._known.discard(key)
        self._kept += 1
        return True

    def finish(self) -> Counts:
        """The counts; DataError where a sample that was named, or scanned, did not come."""
        self._close()
        if missing := sorted(self._unmet | self._lost):
            some = ", ".join(f"{shard}/{key}" for shard, key in missing[:NAMED])
            raise DataError(
                f"not found of the samples that the lists name: {len(missing):,} ({some}"
                f"{', ...' if len(missing) > NAMED else ''}). The lists are of another dataset, or it has "
                "changed since; nothing was written. Scan it again"
            )
        return Counts(self._kept, self._dropped, self._bad)

    def _close(self) -> None:
        self._lost |= {(self._shard, key) for key in self._known}


def by_file(dataset: Dataset) -> dict[str, list[Shard]]:
    """The shards of each file, in order."""
    files: dict[str, list[Shard]] = {}
    for shard in dataset.shards:
        files.setdefault(shard.location, []).append(shard)
    return files


def target(folder: Path, name: str) -> Path:
    """Where `name` goes inside `folder`, its parents made; DataError if it would leave it."""
    parts = name.split("/")
    if not name or "\0" in name or os.path.isabs(name) or any(part in ("", ".", "..") for part in parts):
        raise DataError(f"refusing to write {name!r}: the name leads out of the target folder")
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
