"""The pairs of a dataset and their pixels, and what a campaign has planted in it."""

import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from clipscan.data import open_dataset
from clipscan.lab.attacks.poisoning import poison
from clipscan.lab.scenes.dataset import Scenes


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def everything(dataset):
    return [one for shard in dataset.shards for one in dataset.read(shard)]


def planted_by(tmp_path, attack, target, rate=0.2, n=60, **how):
    done = poison(Scenes(n), tmp_path, attack=attack, target=target, rate=rate, **how)
    written = {(one.shard, one.key): one for one in everything(open_dataset(done.dataset))}
    rows = pq.read_table(done.truth).to_pylist()
    return [(row, written[row["shard"], row["key"]]) for row in rows]
