"""The options of a training, as values; each default of `train_clip` and of `clipscan train` stands here, but
for those of SafeCLIP (recipe.py). What each means: `train_clip`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from clipscan.train.recipe import SafeClip, Watch


@dataclass(frozen=True)
class Training:
    """What decides the weights, beside the data and the kind of device."""

    model: str | None = None
    init: Path | None = None
    epochs: int | None = None
    batch_size: int = 256
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of all steps
    seed: int = 0
    flip: bool = True
    safeclip: SafeClip | None = None


@dataclass(frozen=True)
class Resources:
    """Where a training computes, and what it may take of the machine."""

    device: str = "auto"
    workers: int | None = None
    cache_bytes: int = 8 << 30  # of disk, for decoded pixels


@dataclass(frozen=True)
class Monitoring:
    """What is kept and said of a training while it goes on; no weight depends on it."""

    snapshots: Collection[int] = ()
    watch: Watch | None = None
    log: Callable[[str], None] | None = None

    def say(self, line: str) -> None:
        if self.log:
            self.log(line)
