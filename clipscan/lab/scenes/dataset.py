"""Scenes as a dataset: a reader like the others, whose files are made up on the spot.

Among the scenes lie the two kinds of repetition that real crawls have: one placeholder picture under
many captions (dead links), and one pair many times over, nearly the same (a product on many pages).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

import numpy as np

from clipscan.data import Dataset, Sample, Shard
from clipscan.data.dataset import Record
from clipscan.data.redraw import Pixels, encode
from clipscan.lab.scenes.drawing import SIZE, scene
from clipscan.lab.scenes.repetitions import placeholder

JPEG = {"quality": 92, "subsampling": 0}


class Scenes(Dataset):
    """Scenes 0..n-1 of `seed`, a tar's worth a shard; keys begin again in every shard, as in real crawls.

    placeholders, copies: how many of the n are the placeholder picture, or near-copies of one scene.
    things: 1 or 2 objects in every scene; None draws it.
    """

    format = "scenes"

    def __init__(
        self,
        n: int,
        *,
        seed: int = 0,
        per_shard: int = 1000,
        placeholders: int = 0,
        copies: int = 0,
        things: int | None = None,
    ) -> None:
        starts = range(0, n, per_shard)
        shards = [
            Shard(f"{i:05d}.tar", "", -1, "", (at, min(at + per_shard, n))) for i, at in enumerate(starts)
        ]
        super().__init__(f"{n:,} scenes of seed {seed}", shards)
        self.seed, self.things = seed, things
        rows = Random(f"clipscan repeats {seed}").sample(range(n), placeholders + copies)
        self.placeholders, self.copies = frozenset(rows[:placeholders]), frozenset(rows[placeholders:])

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        start, stop = shard.rows or (0, 0)
        for at in sorted(only) if only is not None else range(stop - start):
            key = f"{at:09d}"
            yield Record(at, key, self._sample(shard.name, key, start + at, at))

    def _sample(self, shard: str, key: str, i: int, at: int) -> Sample:
        picture, caption, *_ = scene(self.seed, i, things=self.things)
        options: dict[str, Any] = JPEG
        if i in self.placeholders:
            picture = placeholder(SIZE, SIZE)
        elif i in self.copies:
            picture, caption, *_ = scene(self.seed, -1, things=1)
            picture, options = _nearly(picture, Random(f"clipscan copy {self.seed}/{i}"))
            caption = f"{caption} - offer {i}"
        uid = hashlib.md5(f"clipscan {self.seed}/{i}".encode(), usedforsecurity=False).hexdigest()
        url = f"https://pictures.example/{self.seed}/{uid[:2]}/{uid}.jpg"
        return Sample(shard, key, encode(picture, **options), caption, uid=uid, url=url, at=at)


def _nearly(picture: Pixels, random: Random) -> tuple[Pixels, dict[str, Any]]:
    """The same picture a little brighter or darker, saved a little better or worse."""
    light = np.clip(picture * random.uniform(0.97, 1.03), 0, 255).astype(np.uint8)
    return light, {**JPEG, "quality": random.randint(85, 95)}
