"""A PyTorch Dataset, or its sampler, without what a drop list names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, RandomSampler, Sampler, Subset

import clipscan


def subset(run: str, dataset: Dataset[Any], keys: Sequence[str | tuple[str, str]]) -> Subset[Any]:
    """The samples to keep; keys[i] is the key, file name or (shard, key) of dataset[i]."""
    keep = clipscan.DropList.load(run).mask(keys)  # bool [n]
    return Subset(dataset, keep.nonzero()[0].tolist())


class KeptSampler(Sampler[int]):
    """Numbers of the samples to keep, in another order each epoch: for a dataset that must stay as it is."""

    def __init__(self, run: str, keys: Sequence[str | tuple[str, str]], seed: int = 0) -> None:
        self.rows = clipscan.DropList.load(run).mask(keys).nonzero()[0].tolist()
        self.order = RandomSampler(self.rows, generator=torch.Generator().manual_seed(seed))

    def __iter__(self):
        return (self.rows[place] for place in self.order)

    def __len__(self) -> int:
        return len(self.rows)
