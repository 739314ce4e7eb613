"""What decides a training run, and what may therefore not change while it is resumed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipscan.data.dataset import Shard
from clipscan.errors import InputError

RECIPE_KEY = "clipscan_recipe"  # in the metadata of a trained file

# What else is known of SafeCLIP's partitions. Of the (shard, key) of each pair a Watch makes a Remark: which
# pairs are safe [n] -> fields of the partition's record, words of its line in the log.
Remark = Callable[[NDArray[np.bool_]], tuple[dict[str, Any], str]]
Watch = Callable[[Sequence[tuple[str, str]]], Remark]

# How far the slow epoch of SafeCLIP goes: rate times steps, as Adam's steps are of the order of the rate. Of
# five lengths tried on CIFAR-10 with 0.5 % poison (0.01 to 0.4) this left poison the lowest cosines; it is
# also what the authors' 5e-6 comes to where 128 of a million pairs are a step.
SLOW_PATH = 0.04

# How long a training is by default: LEAST_STEPS, as far as EPOCHS and SHORTEST allow. By epochs alone
# a small dataset is not learnt: of 1,500 photographs 10 epochs are 50 steps, retrieval among the first 10 of
# 1,000 is 0.02 (chance 0.01), and 0.87 after 30. By steps alone it is learnt by heart, and poison no longer
# stands out: after 30 and 100 epochs consensus had an AUROC of 0.84 and 0.68 (one seed, 30 planted of 1,500).
LEAST_STEPS, EPOCHS, SHORTEST = 2000, (10, 30), 150
BY_STEPS = f"by steps: {LEAST_STEPS}, {EPOCHS[0]} to {EPOCHS[1]} epochs, at least {SHORTEST}"


def epochs_for(steps: int) -> int:
    """How many epochs of so many steps each a training has by default."""
    fewest, most = EPOCHS
    return max(fewest, min(most, -(-LEAST_STEPS // steps)), -(-SHORTEST // steps))


@dataclass(frozen=True)
class SafeClip:
    """What SafeCLIP adds to the settings of a training (Yang et al. 2024; theirs are the defaults, but for
    slow_rate)."""

    warmup_epochs: int = 5  # of the unimodal losses alone
    slow_rate: float | None = None  # constant, of the one epoch on all pairs; None: SLOW_PATH by its steps
    threshold: float = 0.9  # posterior from which a pair is safe the first time
    growth: float = 0.01  # of the safe share, an epoch
    most: float = 0.85  # safe share that it grows to
    pool: float = 0.02  # share of the pairs among whose features a positive is looked for; 0: the other view

    def check(self, epochs: int) -> None:
        """Raises InputError for numbers that no training can use."""
        slow = self.slow_rate is None or self.slow_rate > 0
        if not (self.warmup_epochs >= 0 and slow and self.growth >= 0):
            raise InputError(
                "safeclip needs warmup_epochs >= 0, slow_rate > 0 and growth >= 0, got "
                f"warmup_epochs={self.warmup_epochs}, slow_rate={self.slow_rate}, growth={self.growth}"
            )
        for name in ("threshold", "most", "pool"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)} must lie in 0..1")
        if epochs < (least := self.warmup_epochs + 2):
            raise InputError(
                f"safeclip takes {self.warmup_epochs} epochs of warm-up and a slow one before it parts the "
                f"pairs: epochs must be at least {least}, got {epochs}; or shorten the warm-up"
            )


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
    precision: str  # "fp32" | "bf16"
    dataset: str  # sha256 over names, sizes and stamps of its shards
    processes: int = 1
    safeclip: SafeClip | None = None  # None: CLIP's loss on all pairs, in every epoch
    init: str | None = None  # sha256 of the weights that it went out from; None: random ones
    by_steps: bool = False  # the number of epochs is open: `sized` sets it, as soon as the pairs are counted

    def sized(self, pairs: int) -> Recipe:
        """The recipe for so many pairs: with as many epochs as they need where that is open."""
        if not self.by_steps:
            return self
        found = replace(self, epochs=epochs_for(pairs // self.batch_size))
        found.check()
        return found

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

        if self.batch_size % self.processes or self.batch_size // self.processes < 2:
            raise InputError(
                f"batch_size={self.batch_size} cannot be shared out evenly among {self.processes} processes, "
                "two pairs or more for each"
            )
        if self.safeclip:
            self.safeclip.check(self.epochs)

    def settings(self) -> dict[str, Any]:
        """All that decides the weights, by name. What is as it always was goes unmentioned: a file that was
        trained before there was a choice is recognised."""
        named = asdict(self)
        safeclip = named.pop("safeclip")
        if self.processes == 1:
            del named["processes"]
        if self.init is None:
            del named["init"]
        if named.pop("by_steps"):
            named["epochs"] = BY_STEPS  # of which batch size and dataset make a number
        return named | ({"method": "safeclip"} | safeclip if safeclip else {})

    def to_json(self) -> str:
        return json.dumps(self.settings(), sort_keys=True)

    def differences(self, other: str) -> str:
        """What another recipe's JSON says otherwise, in words; "" for the same."""
        theirs: dict[str, Any] = json.loads(other)
        ours = self.settings()
        changed = [name for name in sorted(ours | theirs) if ours.get(name) != theirs.get(name)]
        usual: dict[str, Any] = {"method": "clip", "processes": 1}
        return ", ".join(
            f"{name} was {theirs.get(name, usual.get(name))}, now {ours.get(name, usual.get(name))}"
            for name in changed
        )

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
