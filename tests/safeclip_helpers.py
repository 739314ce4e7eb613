"""x"""

import pytest

from clipscan.data import Dataset, Sample, Shard
from clipscan.data.dataset import Record

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


class Two(Dataset):
    """Three pairs in each of two shards."""

    format = "two"

    def __init__(self):
        super().__init__("two", [Shard(f"{i}.tar", "", 1, "then") for i in range(2)])

    def records(self, shard, rows=None):
        for at in range(3):
            yield Record(at, str(at), Sample(shard.name, str(at), b"", f"pair {at}", at=at))
