"""A dataset less some of its pairs, for a training that leaves out what is on a drop list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from clipscan.data.dataset import Dataset, Record, Shard
from clipscan.data.files import File
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

    def records(self, shard: Shard, rows: Mapping[int, str] | None = None) -> Iterator[Record]:
        for record in self.dataset.records(self.original[shard.name], rows):
            if (shard.name, record.key) not in self.drop:
                yield record

    def files(self, shard: Shard) -> dict[str, File]:
        """Those of the dataset."""
        return self.dataset.files(self.original[shard.name])

    def check(self) -> None:
        """Raises DataError where the dataset holds none of the pairs: then the list is that of another one.

        Reads the shards that the list names until the first of the pairs is met.
        """
        named = {shard for shard, _ in self.drop}
        for shard in self.original.values():
            if shard.name in named and any(
                (shard.name, record.key) in self.drop for record in self.dataset.records(shard)
            ):
                return
        if self.drop:
            first = min(self.drop)
            raise DataError(
                f"{self.dataset.source} holds none of the {len(self.drop):,} pairs to drop, the first of "
                f"them {first!r}; was the list made from another dataset?"
            )
