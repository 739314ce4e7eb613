"""A dataset less some of its pairs, for a training that leaves out what is on a drop list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from clipscan.data.dataset import Dataset, Record, Shard
from clipscan.data.inventory import File
from clipscan.errors import DataError


class Without(Dataset):
    """A dataset that leaves out the pairs `drop`; its shards' stamps say so, as they decide a training."""

    format = "without"

    def __init__(self, dataset: Dataset, drop: AbstractSet[tuple[str, str]]) -> None:
        listed = json.dumps([sorted(drop)], ensure_ascii=False).encode("utf-8", "surrogatepass")
        mark = hashlib.sha256(listed).hexdigest()[:8]
        shards = [shard._replace(stamp=f"{shard.stamp} without {mark}") for shard in dataset.shards]
        super().__init__(f"{dataset.source} without {len(drop):,} pairs", shards)
        self.dataset, self.drop = dataset, drop
        self.original = {shard.name: shard for shard in dataset.shards}

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        for record in self.dataset.records(self.original[shard.name], only):
            if (shard.name, record.key) not in self.drop:
                yield record

    def files(self, shard: Shard) -> dict[str, File]:
        """Those of the dataset."""
        return self.dataset.files(self.original[shard.name])

    def check(self) -> None:
        """Raises DataError where shards of the dataset do not hold the pairs that name them: the list is that
        of another dataset, or it has changed since.

        Reads each shard that the list names until the last of its pairs is met; a list may name others too.
        """
        wanted: dict[str, set[str]] = {}
        for name, key in self.drop:
            wanted.setdefault(name, set()).add(key)
        missing: list[tuple[str, str]] = []
        for shard in self.original.values():
            left = wanted.pop(shard.name, set())
            missing += sorted((shard.name, key) for key in self._unmet(shard, left))
        elsewhere = sum(len(keys) for keys in wanted.values())
        if self.drop and len(missing) + elsewhere == len(self.drop):
            raise DataError(
                f"{self.dataset.source} holds none of the {len(self.drop):,} pairs to drop, the first of "
                f"them {min(self.drop)!r}; was the list made from another dataset?"
            )
        if missing:
            raise DataError(
                f"{self.dataset.source} does not hold {len(missing):,} of the {len(self.drop):,} pairs to "
                f"drop, the first of them {missing[0]!r}; it has changed since the list was made: scan again"
            )

    def _unmet(self, shard: Shard, keys: set[str]) -> set[str]:
        if keys:
            for record in self.dataset.records(shard):
                keys.discard(record.key)
                if not keys:
                    break
        return keys
