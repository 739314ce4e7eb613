"""Files in, samples out: every layout of an image-text dataset behind one door (open.py).

    dataset = open_dataset("shards/{00000..00331}.tar")
    for shard in dataset.shards:
        for sample in dataset.read(shard):      # Sample, or Bad with its reason

Everything found in the data is hostile; the readers answer with a Bad, never with an exception.
"""

from clipscan.data.dataset import Dataset, Shard, Vectors
from clipscan.data.open import open_dataset
from clipscan.data.sample import Bad, Sample
from clipscan.data.without import Without
from clipscan.data.write import Counts, write_without

__all__ = [
    "Bad",
    "Counts",
    "Dataset",
    "Sample",
    "Shard",
    "Vectors",
    "Without",
    "open_dataset",
    "write_without",
]
