"""The dataset of a run against its listing: which files are new, gone or changed, which shards the same."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from clipscan.data import Dataset, Shard
from clipscan.run.digests import Digests, Files, Known, same_content, shard_files
from clipscan.run.file_io import storable
from clipscan.run.listing import Listing
from clipscan.run.run_folder import RunFolder

NAMED = 3  # files of each kind that a message names


class Changes(NamedTuple):
    """Names of files that differ; of shards that do so though no file does; of shards that are the same."""

    new: list[str]
    gone: list[str]
    changed: list[str]
    cut: list[str]
    same: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.new or self.gone or self.changed or self.cut)

    def words(self) -> str:
        """'2 new (b.tar, c.tar); 1 changed (a.tar)'."""
        kinds = {"new": self.new, "gone": self.gone, "changed": self.changed, "cut otherwise": self.cut}
        return "; ".join(f"{len(names):,} {kind} ({_some(names)})" for kind, names in kinds.items() if names)


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def compare(run: RunFolder, dataset: Dataset) -> Changes:
    """The dataset against the listing of the run. Shards that are the same get the size and stamp that the
    run recorded, so that their tasks count as finished."""
    listing, digests = Listing(run), Digests()
    shards = {storable(shard.name): shard for shard in dataset.shards}
    known = run.record.get("dataset", {}).get("shards", [])
    pending = set(known) - listing.rows.keys()  # not embedded yet: whatever they hold now will be
    same = {
        name for name, shard in shards.items()
        if name in listing.rows and listing.is_same(dataset, shard, digests)
    }  # fmt: skip
    listing.remember()
    dataset.shards = [_as_known(shard, listing, same) for shard in dataset.shards]
    then: dict[str, Known] = {}
    now: Files = {}
    for name in listing.rows.keys() - same:
        then |= listing.files(name)
    for name in shards.keys() - same - pending:
        now |= shard_files(dataset, shards[name])
    changed = [name for name in now if name in then and not same_content(then[name], now[name], digests)]
    new = sorted(now.keys() - then.keys())
    gone = sorted(_gone(dataset, then.keys() - now.keys()) | (pending - shards.keys()))
    cut = sorted(listing.rows.keys() - same | shards.keys() - set(known))
    return Changes(new, gone, sorted(changed), [] if new or gone or changed else cut, frozenset(same))


def _gone(dataset: Dataset, names: Iterable[str]) -> set[str]:
    """Those of `names` that are no file any more: the caption of a lost picture is still there."""
    return {name for name in names if not any(os.path.isfile(f"{root}/{name}") for root in dataset.roots)}


def _as_known(shard: Shard, listing: Listing, same: Iterable[str]) -> Shard:
    if (name := storable(shard.name)) not in same:
        return shard
    size, stamp, _ = listing.shards[name]
    return shard._replace(size=size, stamp=stamp)
