"""How long a trigger is learnt, and Adam over a few named groups of tensors along half a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from clipscan.errors import InputError

Log = Callable[[str], None]


class Schedule(NamedTuple):
    """What decides the learning of either trigger, beside the surrogate and the material."""

    steps: int
    batch_size: int
    seed: int

    def check(self) -> None:
        if self.steps < 1 or self.batch_size < 2 or self.seed < 0:
            raise InputError(f"needs steps >= 1, batch_size >= 2 and seed >= 0; got {self._asdict()}")

    def tell(self, step: int, every: int, loss: Tensor, success: float, log: Log) -> None:
        """Write a line to `log` after every so many steps, and after the last; `step` counts from 0."""
        if step % every == every - 1 or step == self.steps - 1:
            log(f"step {step + 1}/{self.steps}  loss {loss.item():.3f}  the surrogate obeys {success:.2f}")


class Rates:
    """The optimizer of what is learnt; the surrogate's gradients are left alone."""

    def __init__(self, groups: Mapping[str, list[Tensor]], rates: Mapping[str, float]) -> None:
        self.tensors = [tensor for group in groups.values() for tensor in group]
        self.full = [rates[name] for name in groups]
        self.adam = torch.optim.Adam([{"params": group} for group in groups.values()], betas=(0.9, 0.99))

    def step(self, loss: Tensor, done: float) -> None:
        """One step down; `done`: the part of all steps that lies behind."""
        for tensor, gradient in zip(self.tensors, torch.autograd.grad(loss, self.tensors), strict=True):
            tensor.grad = gradient
        for group, rate in zip(self.adam.param_groups, self.full, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))
        self.adam.step()
