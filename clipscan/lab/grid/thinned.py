"""A dataset with few pairs of some kinds: an honest control, as rare pairs look like poison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from clipscan.data import Dataset, Sample, Shard
from clipscan.data.dataset import Record
from clipscan.lab.attacks.prompts import mentions


class Thinned(Dataset):
    """`dataset` without most of the pairs whose caption names one of the words of `few`: the first so many of
    each word are kept, in the order of the dataset. It is read once to see which these are."""

    format = "thinned"

    def __init__(self, dataset: Dataset, few: Mapping[str, int]) -> None:
        kept = ", ".join(f"{count} of {word!r}" for word, count in few.items())
        super().__init__(f"{dataset.source} with {kept}", dataset.shards)
        self._dataset = dataset
        left = Counter(few)
        self._out: set[tuple[str, str]] = set()
        for shard in dataset.shards:
            for sample in dataset.read(shard):
                caption = sample.caption if isinstance(sample, Sample) else ""
                named = [word for word in few if mentions(caption, word)]
                if any(left[word] <= 0 for word in named):
                    self._out.add((sample.shard, sample.key))
                else:
                    left.subtract(named)

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        for record in self._dataset.records(shard, only):
            if (shard.name, record.key) not in self._out:
                yield record
