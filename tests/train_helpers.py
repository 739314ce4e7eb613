"""Small datasets to train on, and what two trainings have in common."""

import io

import numpy as np
import pytest
from disturbance import SEED
from PIL import Image

from clipscan.data.dataset import Dataset, Record, Shard
from clipscan.data.sample import Bad, Sample

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230), "white": (230, 230, 230)}
FEW = {"epochs": 3, "batch_size": 16, "workers": 1, "device": "cpu", "seed": SEED}


class Squares:
    """Pictures of one colour, in two shards, with their colour for a caption; one in 20 cannot be read.

    Four colours and four captions, one for one: the easiest there is to learn."""

    format, source = "squares", "squares"

    def __init__(self, count: int = 80, size: int = 1):
        self.count = count
        self.shards = [Shard(f"{i}.tar", "", size, "") for i in range(2)]

    def read(self, shard):
        draw = np.random.default_rng([SEED, int(shard.name[0])])
        for i in range(self.count // 2):
            name = list(COLOURS)[i % 4]
            pixels = (np.array(COLOURS[name]) + draw.integers(-20, 20, (32, 32, 3))).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            broken = i % 20 == 19
            yield Sample(shard.name, str(i), b"broken" if broken else file.getvalue(), f"a {name} square")
        yield Bad(shard.name, "z", "no caption")


def weights(path):
    from safetensors.torch import load_file

    return load_file(path)


def same(ours, theirs):
    ours, theirs = weights(ours), weights(theirs)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Stop(Exception):
    pass


class Two(Dataset):
    """Three pairs in each of two shards."""

    format = "two"

    def __init__(self):
        super().__init__("two", [Shard(f"{i}.tar", "", 1, "then") for i in range(2)])

    def records(self, shard, rows=None):
        for at in range(3):
            yield Record(at, str(at), Sample(shard.name, str(at), b"", f"pair {at}", at=at))
