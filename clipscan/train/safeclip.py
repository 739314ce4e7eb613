"""SafeCLIP (Yang et al., ICML 2024): a pair counts only after a model that has not learnt it finds it apt.

1. `warmup_epochs` of unimodal losses: two views of a picture agree, two views of a caption agree.
2. One epoch of CLIP's loss on all pairs at a small constant rate: enough to bring the towers together, too
   little to learn a few poisoned pairs.
3. Every further epoch parts the pairs by their cosines (scores/mixture.py). The first time those are safe
   whose posterior of the high component reaches `threshold`; later the share of the epoch before and `growth`
   more, at most `most`, highest cosines first. The risky pairs get the unimodal losses, then the safe ones
   CLIP's.

The unimodal losses are one-sided, as in the authors' code: the second view finds the first, whose place its
nearest neighbour in a pool takes. What that code does otherwise: it ranks by a posterior that is not
monotone, and takes cosines and CLIP's loss of random views, where here cosines are those of pictures and
captions as they are, and CLIP's loss is of the shifted pictures of plain training; and its learning rate
follows a curve of its own in each phase, where here one curve spans them all.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipscan.data.atomic import write_bytes
from clipscan.scores.mixture import TOO_FEW, Mixture, fit_mixture, highest
from clipscan.train.batches import Cached
from clipscan.train.clock import Clock
from clipscan.train.pool import Pool
from clipscan.train.recipe import SLOW_PATH, SafeClip, Watch
from clipscan.train.state import Extra
from clipscan.train.trainer import Trainer
from clipscan.train.views import caption_view, picture_views

# Of safe pairs where the first mixture does not separate: `filter_ratio` of the authors' code.
FIRST_SHARE = 0.15
AT_ONCE = 512  # pairs whose cosines are computed at once


class SafeTrainer(Trainer):
    """A Trainer by SafeCLIP. Beside the network it keeps two pools of features and the partitions so far.

    The partitions are kept in the file `records`, a line of JSON for each epoch that made one: epoch, pairs,
    safe, share, cosines (the mixture; null with too few pairs for one), and what `watch` remarks.
    """

    source: Cached

    def __init__(self, *common: Any, settings: SafeClip, records: Path, watch: Watch | None) -> None:
        super().__init__(*common)
        self.settings, self.records = settings, records
        size = round(settings.pool * self.source.count)
        self.pools = {"image": Pool(size), "text": Pool(size)}
        self.partitions: list[dict[str, Any]] = []
        self.remark = watch(self.source.identities()) if watch else None

    def epoch(self, epoch: int, clock: Clock) -> None:
        batch_size, warmup = self.recipe.batch_size, self.settings.warmup_epochs
        if epoch < warmup:
            self.train_unimodal(None, epoch, clock)
        elif epoch == warmup:
            slow = self.settings.slow_rate or SLOW_PATH / (self.source.count // batch_size)
            self.train_pairs(self.source.batches(epoch, batch_size), clock, slow)
        else:
            safe = self.part(epoch)
            self.train_unimodal(np.flatnonzero(~safe), epoch, clock)
            self.train_pairs(self.source.batches(epoch, batch_size, np.flatnonzero(safe)), clock)

    def train_unimodal(self, among: NDArray[np.int64] | None, epoch: int, clock: Clock) -> None:
        """The unimodal losses on all pairs, or on those `among` them: batches of two views of each."""
        edit = partial(caption_view, random=Random(f"{self.recipe.seed} {epoch} {self.mine.rank}"))
        for rows in self.mine.together(self.source.draws(epoch, self.recipe.batch_size, among)):
            pixels = self.on_device(self.source.pixels[rows])
            views = [picture_views(pixels, self.shifts, flip=self.recipe.flip) for _ in range(2)]
            edited = np.concatenate([self.source.edited(rows, edit) for _ in range(2)])
            image, text, scale = self.towers(torch.cat(views), self.on_device(edited).long())
            losses = [self.agreement(image, scale, "image"), self.agreement(text, scale, "text")]
            clock.tick(self.update((losses[0] + losses[1]) / 2, clock.rate))

    def agreement(self, views: Tensor, scale: Tensor, pool: str) -> Tensor:
        """Features [2b, d] of first views, then of second ones -> how well each second view finds, among the
        nearest in the pool of all first ones, that of its own."""
        first, second = self.mine.gather(*views.chunk(2))
        positive = self.pools[pool].nearest(first)
        self.pools[pool].push(first)
        return F.cross_entropy(scale * second @ positive.T, torch.arange(len(second), device=second.device))

    def part(self, epoch: int) -> NDArray[np.bool_]:
        """Which pairs are safe in this epoch, [n]; says so, and writes it down."""
        cosine = self.cosines()
        mixture = fit_mixture(cosine)
        share = max(self._share(cosine, mixture), self.recipe.batch_size / len(cosine))  # one batch at least
        safe = highest(cosine, share)
        found: dict[str, Any] = {"epoch": epoch + 1, "pairs": len(safe), "safe": int(safe.sum())}
        found |= {"share": share, "cosines": mixture.record() if mixture else None}
        said = f"epoch {epoch + 1}: {found['safe']:,} of {len(safe):,} pairs are safe ({share:.1%})"
        if self.remark is not None:
            fields, words = self.remark(safe)
            found |= fields
            said += f", {words}"
        self.log(f"{said}; {mixture.words() if mixture else TOO_FEW}")
        self.partitions.append(found)
        if self.mine.first:
            write_bytes(self.records, "".join(json.dumps(one) + "\n" for one in self.partitions).encode())
        return safe

    def _share(self, cosine: NDArray[np.float32], mixture: Mixture | None) -> float:
        """How many pairs to take for safe, as a share of all."""
        if self.partitions:
            return min(self.settings.most, self.partitions[-1]["share"] + self.settings.growth)
        if mixture is None or not mixture.separates:
            return FIRST_SHARE
        return float((mixture.posterior(cosine) >= self.settings.threshold).mean())

    @torch.no_grad()
    def cosines(self) -> NDArray[np.float32]:
        """Of every picture and its caption, as they are, [n]."""
        cosine = torch.zeros(self.source.count, device=self.mine.device)
        self.network.eval()
        own = np.arange(self.mine.rank, self.source.count, self.mine.count)
        for start in range(0, len(own), AT_ONCE):
            rows = own[start : start + AT_ONCE]
            batch = self.source.batch(rows)
            pixels, tokens = self.on_device(batch.pixels), self.on_device(batch.tokens).long()
            image, text, _ = self.plain_towers(pixels, tokens)
            cosine[self.on_device(rows)] = (image * text[self.on_device(batch.caption)]).sum(1)
        self.network.train()
        return self.mine.sum(cosine).cpu().numpy()

    def extra(self) -> Extra:
        tensors = {name: pool.rows for name, pool in self.pools.items() if pool.rows is not None}
        return Extra(tensors, self.partitions)

    def remember(self, extra: Extra) -> None:
        for name, pool in self.pools.items():
            pool.rows = extra.tensors.get(name)
        self.partitions = extra.record
