"""The log lines of a training."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from clipscan.errors import DataError, RunError
from clipscan.train.recipe import Recipe
from clipscan.train.survey import Log

LOG_SECONDS = 30.0  # an epoch that takes longer logs in between


class Clock:
    """Logs epoch, loss, pictures per second and time left."""

    def __init__(self, steps: int, recipe: Recipe, start: int, log: Log) -> None:
        self.steps, self.recipe, self.start, self.log = steps, recipe, start, log
        self.begun = self.spoke = time.monotonic()
        self.losses: list[Tensor] = []
        self.step = start

    def begin(self, epoch: int) -> None:
        """The earlier epoch may have taken fewer steps than were reckoned."""
        self.step = epoch * self.steps

    @property
    def rate(self) -> float:
        """The learning rate of the coming step."""
        return self.recipe.rate(self.step, self.steps * self.recipe.epochs)

    def tick(self, loss: Tensor) -> None:
        self.losses.append(loss)
        self.step += 1
        if time.monotonic() - self.spoke > LOG_SECONDS:
            self._say(f"epoch {self.step / self.steps:.2f}/{self.recipe.epochs}")

    def close(self, epoch: int) -> None:
        """The end of an epoch.

        Raises RunError when the loss is no longer a number, DataError when there was none.
        """
        if not self.losses:
            raise DataError(
                f"epoch {epoch + 1} found not one full batch of readable pairs; batch_size is too large"
            )
        loss = self._say(f"epoch {epoch + 1}/{self.recipe.epochs}")
        self.losses = []
        if not math.isfinite(loss):
            raise RunError(
                f"training diverged in epoch {epoch + 1} (loss {loss}); "
                f"try a smaller lr than {self.recipe.lr}"
            )

    def _say(self, where: str) -> float:
        self.spoke = time.monotonic()
        loss = float(torch.stack(self.losses).mean())
        speed = (self.step - self.start) / (self.spoke - self.begun)  # steps per second
        left = (self.steps * self.recipe.epochs - self.step) / speed
        images = f"{speed * self.recipe.batch_size:,.0f} images/s"
        self.log(f"{where}  loss {loss:.3f}  {images}  {_time(left)} left")
        return loss


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
