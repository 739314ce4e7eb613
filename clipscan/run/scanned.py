"""The dataset of a run, opened again: what of it is still what was scanned."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from inspect import signature

import pyarrow.parquet as pq

from clipscan.data import Dataset, Shard, open_dataset
from clipscan.data.dataset import whole_name
from clipscan.errors import DataError, InputError, RunError
from clipscan.run.changes import Changes, compare
from clipscan.run.digests import Digests
from clipscan.run.listing import SCAN_AGAIN, Listing
from clipscan.run.markers import check_intact
from clipscan.run.run_folder import RunFolder, run_record


def reopened(run: RunFolder) -> tuple[Dataset, Changes]:
    """The dataset as it lies there now, and how it differs from what was scanned.

    RunError if it cannot be found, or if the run does not record it.
    """
    how = dict(run_record(run.path).get("opened", {}))
    if not (source := how.pop("source", None)):
        raise RunError(
            f"{run.path} was made by an older clipscan, which did not record the files it read; scan again "
            "with --overwrite"
        )
    check_intact(run / "listing.parquet")
    if not (run / "listing.parquet").exists():
        raise RunError(
            f"{run.path} is not embedded to its end; run clipscan embed or scan with --out {run.path}"
        )
    if unknown := how.keys() - signature(open_dataset).parameters:
        raise RunError(
            f"{run.path} was made by another clipscan, which opened the dataset with {min(unknown)!r}, "
            "unknown here; use that one, or scan again with --overwrite"
        )
    try:
        dataset = open_dataset(source, **how)
    except (DataError, InputError) as error:
        raise RunError(
            f"the dataset of {run.path} cannot be opened where it lay: {error}. If it has moved, scan it "
            f"where it lies now, with --out {run.path}: what is the same is not embedded again"
        ) from error
    changes = compare(run, dataset)
    if not changes and (unknown := set(run.record["dataset"]["shards"]) - changes.same):
        raise RunError(
            f"the listing of {run.path} is damaged and does not cover {min(unknown)}; scan again "
            "as before, which makes it again"
        )
    return dataset, changes


def changed_since(run: RunFolder, changes: Changes) -> str:
    """One sentence: which files are no longer what was scanned."""
    source = run.record["dataset"]["source"]
    return f"{source} is no longer the dataset that {run.path} was made from: {changes.words()}"


class Scanned:
    """What a run recorded of its dataset, shard by shard."""

    def __init__(self, run: RunFolder, dataset: Dataset) -> None:
        self.run, self.dataset = run, dataset
        self.names = {name: number for number, name in enumerate(run.record["dataset"]["shards"])}
        self.listing, self.digests = Listing(run), Digests()

    def leave_out(self, same: AbstractSet[str]) -> tuple[str, ...]:
        """Take files that hold any other shard than these out of the dataset; returns their names."""
        others = {shard.location for shard in self.dataset.shards if shard.name not in same}
        out = [shard for shard in self.dataset.shards if shard.location in others]
        self.dataset.shards = [shard for shard in self.dataset.shards if shard.location not in others]
        if not self.dataset.shards:
            raise RunError(f"{self.dataset.source} holds nothing that is as it was scanned. {SCAN_AGAIN}")
        return tuple(dict.fromkeys(whole_name(shard) for shard in out))

    def keys(self, shard: Shard) -> set[str]:
        """Keys of the embedded samples."""
        path = self.run.metadata(self.names[shard.name])
        check_intact(path)
        table = pq.read_table(path, columns=["key"])
        return set(table["key"].to_pylist())

    def verify(self, shard: Shard) -> None:
        """DataError where a file does not hold what was scanned, whatever its stamp says."""
        self.listing.verify(self.dataset, shard, self.digests)
