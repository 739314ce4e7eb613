"""What decides a training run, and what may therefore not change while it is resumed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from clipscan.data.dataset import Shard
from clipscan.errors import InputError

RECIPE_KEY = "clipscan_recipe"  # in the metadata of a trained file


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run, resolved: no "auto" is left."""

    model: str
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup: float  # share of all steps
    seed: int
    flip: bool
    device: str  # "cpu" | "cuda"
    precision: str  # of the image tower: "fp32" | "bf16"
    dataset: str  # sha256 over names, sizes and stamps of its shards

    def check(self) -> None:
        """Raises InputError for numbers that no training can use."""
        if self.epochs < 1 or self.batch_size < 2:
            raise InputError(
                "training needs epochs >= 1 and batch_size >= 2 (a pair learns from the rest of its batch), "
                f"got epochs={self.epochs}, batch_size={self.batch_size}"
            )
        if not (self.lr > 0 and self.weight_decay >= 0 and 0 <= self.warmup < 1):
            raise InputError(
                f"training needs lr > 0, weight_decay >= 0 and 0 <= warmup < 1, got lr={self.lr}, "
                f"weight_decay={self.weight_decay}, warmup={self.warmup}"
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def differences(self, other: str) -> str:
        """What another recipe's JSON says otherwise, in words; "" for the same."""
        theirs: dict[str, Any] = json.loads(other)
        ours = asdict(self)
        changed = [name for name in sorted(ours | theirs) if ours.get(name) != theirs.get(name)]
        return ", ".join(f"{name} was {theirs.get(name)}, now {ours.get(name)}" for name in changed)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at `step` of `steps`: linear warm-up, then a cosine that ends at 0."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def dataset_hash(shards: list[Shard]) -> str:
    """sha256 over what the shards are called, how large they are and when they were last changed."""
    listing = json.dumps([[s.name, s.size, s.stamp] for s in shards], ensure_ascii=True)
    return hashlib.sha256(listing.encode()).hexdigest()
