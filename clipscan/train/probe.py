"""What a training has learnt of its own pairs, measured on a sample that it goes on training on.

Pairs kept aside would measure what carries over to others. A scan needs something else: whether the model has
learnt the pairs that are scanned, and a planted pair kept aside could not be learnt at all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from clipscan.scores.retrieval import Retrieval, retrieval

if TYPE_CHECKING:
    from clipscan.train.trainer import Trainer

AT_ONCE = 256  # pairs whose vectors are computed at once


class Probe(NamedTuple):
    """Pairs that share neither picture nor caption: uint8 [m, S, S, 3], int32 [m, context]."""

    pixels: NDArray[np.uint8]
    tokens: NDArray[np.int32]

    @torch.no_grad()
    def retrieval(self, trainer: Trainer) -> Retrieval:
        """By the network as it is; no state of the training changes."""
        trainer.network.eval()
        found = [self._vectors(trainer, at) for at in range(0, len(self.pixels), AT_ONCE)]
        trainer.network.train()
        image, text = (np.concatenate(side) for side in zip(*found, strict=True))
        return retrieval(image, text)

    def _vectors(self, trainer: Trainer, at: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = slice(at, at + AT_ONCE)
        tokens = trainer.on_device(self.tokens[rows]).long()
        image, text, _ = trainer.plain_towers(trainer.on_device(self.pixels[rows]), tokens)
        return image.cpu().numpy(), text.cpu().numpy()


def verdict(now: Retrieval, before: Retrieval | None, epochs: int) -> list[str]:
    """What a training of `epochs` ends with, in words: `before` is what was found at three quarters of it."""
    if not now.tells:
        return [now.doubt()]
    said, longer = [now.words()], f"--epochs {2 * epochs}"
    if not now.learnt:
        said.append(f"THE MODEL HAS HARDLY LEARNT THESE PAIRS: {now.shortfall}. Train longer ({longer})")
    elif before is not None and now.found - before.found > 2 * _deviation(now):
        said.append(
            f"still rising: {before.found:,} of {now.pairs:,} found theirs after three quarters of the "
            f"epochs, {now.found:,} at the end; more epochs would learn more ({longer})"
        )
    return said


def _deviation(now: Retrieval) -> float:
    """Standard deviation of a count such as `found`."""
    return math.sqrt(now.found * (1 - now.found / now.pairs))
