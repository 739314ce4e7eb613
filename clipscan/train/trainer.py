"""A network, its optimizer and where they are: epochs of CLIP's loss on every pair, a state after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clipscan.train.augment import shift_and_flip
from clipscan.train.batches import BatchSource, TrainBatch
from clipscan.train.clock import Clock
from clipscan.train.probe import verdict
from clipscan.train.processes import Processes
from clipscan.train.recipe import Recipe
from clipscan.train.state import NOTHING, Extra, load_state, save_state
from clipscan.train.survey import Log
from clipscan.train.towers import Towers

MAX_LOGIT_SCALE = float(np.log(100))  # CLIP's: beyond it, training becomes unstable
GRADIENT_NORM = 1.0
BETAS, EPSILON = (0.9, 0.98), 1e-6


class Trainer:
    """Trains with CLIP's loss on every pair; other methods override `epoch`."""

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        mine: Processes,
        source: BatchSource,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        log: Log,
    ) -> None:
        from open_clip.loss import ClipLoss

        self.recipe, self.mine, self.source, self.log = recipe, mine, source, log
        if mine.count > 1 and mine.device.startswith("cuda"):
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network = network.to(mine.device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.plain_towers = Towers(self.network, mean, std, mine.device, recipe.precision)
        self.towers = mine.parallel(self.plain_towers)
        self.loss = ClipLoss(gather_with_grad=True, rank=mine.rank, world_size=mine.count)
        self.optimizer = torch.optim.AdamW(
            _groups(self.network, recipe.weight_decay), lr=recipe.lr, betas=BETAS, eps=EPSILON, fused=True
        )
        self.shifts = torch.Generator()

    def train(self, state: Path, finish_epoch: Callable[[int], None]) -> None:
        """All epochs that are not yet done; after each, `finish_epoch` is called with their number so far,
        and `state` is renewed."""
        recipe = self.recipe
        steps = self.source.count // recipe.batch_size
        done = 0
        if state.exists():
            done, extra = load_state(state, self.network, self.optimizer, recipe)
            self.remember(extra)
            self.log(f"going on after epoch {done} of {recipe.epochs}")
        clock = Clock(steps, recipe, done * steps, self.log)
        probe = self.source.probe() if self.mine.first else None
        before = None
        for epoch in range(done, recipe.epochs):
            seed = _seed(recipe.seed, epoch) + self.mine.rank
            torch.manual_seed(seed)  # dropout, in networks that have it
            self.shifts.manual_seed(seed + 1)
            clock.begin(epoch)
            self.epoch(epoch, clock)
            clock.close(epoch)
            if self.mine.first:
                finish_epoch(epoch + 1)
                save_state(state, self.network, self.optimizer, recipe, epoch + 1, self.extra())
            if probe and epoch + 1 == -(-3 * recipe.epochs // 4) < recipe.epochs:
                before = probe.retrieval(self)
        if probe:
            for line in verdict(probe.retrieval(self), before, recipe.epochs):
                self.log(line)

    def epoch(self, epoch: int, clock: Clock) -> None:
        """One epoch, ticking the clock at every step."""
        self.train_pairs(self.source.batches(epoch, self.recipe.batch_size), clock)

    def train_pairs(self, batches: Iterable[TrainBatch], clock: Clock, rate: float | None = None) -> None:
        """A step of CLIP's loss on each batch; at the schedule's learning rate unless another is given."""
        for batch in self.mine.together(batches):
            clock.tick(self.step(batch, self.shifts, clock.rate if rate is None else rate))

    def step(self, batch: TrainBatch, shifts: torch.Generator, rate: float) -> Tensor:
        """One update; returns the loss, still on the device."""
        pixels = shift_and_flip(self.on_device(batch.pixels), shifts, flip=self.recipe.flip)
        image, text, scale = self.towers(pixels, self.on_device(batch.tokens).long())
        loss: Tensor = self.loss(image, text[self.on_device(batch.caption)], scale)
        return self.update(loss, rate)

    def update(self, loss: Tensor, rate: float) -> Tensor:
        """Follow the gradient of a loss; returns the loss without it."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        with torch.no_grad():
            self.network.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator]
        return loss.detach()

    def on_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.mine.device)

    def extra(self) -> Extra:
        """What the method keeps from epoch to epoch; `remember` puts it back."""
        return NOTHING

    def remember(self, extra: Extra) -> None:
        pass


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices shrink; gains, biases and tables, most of whose rows rest in any one step, do not."""
    decayed: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        decayed[parameter.ndim >= 2 and "embedding" not in name].append(parameter)
    return [
        {"params": decayed[True], "weight_decay": weight_decay},
        {"params": decayed[False], "weight_decay": 0.0},
    ]


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)[0])
