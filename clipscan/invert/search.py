"""The search for a trigger by gradient descent through the image tower.

Like Neural Cleanse (Wang et al. 2019), for captions instead of classes: Adam over the logits of mask and
pattern; cross entropy against the captions of the dataset; a price on the mask that rises while the
trigger works and falls while it does not, so that what remains is the least mask that still works.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.embed.model import Encoder
from clipscan.embed.network import autocast, few_threads, to_input
from clipscan.invert.contest import Contest
from clipscan.invert.trigger import Form, Trigger, stamp

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Pixels = NDArray[np.uint8]

RATE, BETAS = 0.1, (0.5, 0.9)  # of Adam, as Neural Cleanse has them
START = -1.0  # logit of the mask at the start: 0.27; from less a hard search takes 50 steps longer to begin
ENOUGH = 0.95  # a mask counts when this share of the pictures set apart for choosing is fooled
AIM = 0.97  # the price rises above this share of recent batches: a little more than what must be reached
DEARER, CHEAPER = 1.1, 1 / 1.15  # a step of the price; 25 steps change it tenfold
PRICES = (1e-3, 1e4)
MEMORY = 0.8  # of the running success; a batch of 64 alone is off by 0.02
LOOK = 10  # steps between two looks at the pictures set apart
SMALLER = 0.98  # only a mask this much smaller than the best is worth a look
HOPELESS = 0.5  # success at half time below which an attempt is given up
FRESH, LONGEST = 0.2, 2  # a best found in the last fifth: go on, for at most twice the steps


class SearchBudget(NamedTuple):
    """How long to search."""

    steps: int = 200
    batch: int = 64
    restarts: int = 2  # attempts, of which only the first is made where it works


def __getattr__(name: str) -> Any:
    """The old name of SearchBudget, of this module and of clipscan.invert."""
    if name != "Plan":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn("clipscan.invert.Plan is named SearchBudget now", DeprecationWarning, stacklevel=2)
    return SearchBudget


class Clean(NamedTuple):
    """Clean pictures, uint8 [n, S, S, 3] each, no picture in two parts."""

    search: Pixels  # the gradient sees these
    choose: Pixels  # these decide which mask was the least that works
    held_out: Pixels  # these nothing has seen: they give the success that is reported

    @property
    def size(self) -> int:
        return self.held_out.shape[1]


class Found(NamedTuple):
    trigger: Trigger
    reached: bool  # did it ever work on the pictures set apart?


def recover(
    encoder: Encoder, clean: Clean, contest: Contest, form: Form, plan: SearchBudget, seed: int
) -> Found:
    """The least trigger of this form that leads to the contest's own captions.

    Further attempts, from other starting points, are made only while none has worked. One that never works
    returns the last attempt's mask and pattern. Deterministic for a seed, on one device.
    """
    for attempt in range(max(1, plan.restarts)):
        found = _attempt(encoder, clean, contest, form, plan, seed + 1000 * attempt)
        if found.reached:
            break
    return found


def success(
    encoder: Encoder, pictures: Pixels, contest: Contest, trigger: Trigger | None, seed: int
) -> float:
    """Share of pictures, with the trigger or as they are, that are nearest to one of the own captions."""
    shown = pictures if trigger is None else stamp(pictures, trigger, seed)
    parts = [shown[at : at + 256] for at in range(0, len(shown), 256)]
    return float(np.concatenate([contest.won(encoder.encode_images(part)) for part in parts]).mean())


def _attempt(
    encoder: Encoder, clean: Clean, contest: Contest, form: Form, plan: SearchBudget, seed: int
) -> Found:
    import torch

    draw = torch.Generator().manual_seed(seed)
    canvas = max(1, clean.size // form.canvas)
    search = _Search(encoder, contest, form, canvas, draw)
    best: Trigger | None = None
    found = step = 0
    with _descending(encoder):
        while _worth_while(step, found, search.running, plan.steps):
            row = torch.randint(len(clean.search), (plan.batch,), generator=draw)
            search.step(torch.from_numpy(clean.search[row.numpy()]))
            step += 1
            if step % LOOK == 0 and search.running >= ENOUGH:
                trigger = search.trigger()
                smaller = best is None or trigger.mask.sum() < SMALLER * best.mask.sum()
                if smaller and success(encoder, clean.choose, contest, trigger, seed) >= ENOUGH:
                    best, found = trigger, step
    return Found(best or search.trigger(), best is not None)


def _worth_while(step: int, found: int, running: float, steps: int) -> bool:
    """Go on? Not where most pictures still resist at half time; past the end only while the mask shrinks.

    step: steps made; found: the step of the best trigger so far; running: success of recent batches.
    """
    if step < steps:
        return step < steps // 2 or bool(found) or running >= HOPELESS
    return step < LONGEST * steps and found > (1 - FRESH) * step


@contextmanager
def _descending(encoder: Encoder) -> Iterator[None]:
    """Inside, the model's own weights want no gradient, and torch computes as the encoder does."""
    wanted = [p.requires_grad for p in encoder.model.parameters()]
    encoder.model.requires_grad_(False)
    try:
        with few_threads(encoder.model):
            yield
    finally:
        for parameter, want in zip(encoder.model.parameters(), wanted, strict=True):
            parameter.requires_grad_(want)


class _Search:
    """Mask and pattern by their logits, and the price of the mask."""

    def __init__(
        self, encoder: Encoder, contest: Contest, form: Form, canvas: int, draw: torch.Generator
    ) -> None:
        import torch

        self.encoder, self.draw = encoder, draw
        cells, channels = 1 if form.even else canvas, 3 if form.tint else 1
        mask = START + 0.1 * torch.randn(channels, cells, cells, generator=draw)
        self.mask = mask.to(encoder.device).requires_grad_()  # logits [1 or 3, c or 1, c or 1]
        cells = 1 if form.tint else canvas
        pattern = 0.5 * torch.randn(3, cells, cells, generator=draw)
        self.pattern = pattern.to(encoder.device).requires_grad_()  # logits [3, c or 1, c or 1]
        self.text, self.own = torch.from_numpy(contest.text).to(encoder.device), contest.own
        self.adam = torch.optim.Adam([self.mask, self.pattern], lr=RATE, betas=BETAS)
        self.canvas, self.price, self.running = canvas, 1.0, 0.0
        self.scale = _scale(encoder)

    def step(self, pictures: Tensor) -> None:
        """One batch, uint8 [b, S, S, 3]."""
        logits = self.logits(pictures.to(self.encoder.device).float().permute(0, 3, 1, 2) / 255)
        missed = logits.logsumexp(1) - logits[:, : self.own].logsumexp(1)
        share = self.mask.sigmoid().mean() * (self.canvas / pictures.shape[1]) ** 2
        self.adam.zero_grad()
        (missed.mean() + self.price * share).backward()
        self.adam.step()
        hit = float((logits.argmax(1) < self.own).float().mean())
        self.running = MEMORY * self.running + (1 - MEMORY) * hit
        price = self.price * (DEARER if self.running >= AIM else CHEAPER)
        self.price = min(max(price, PRICES[0]), PRICES[1])

    def logits(self, pictures: Tensor) -> Tensor:
        """Pictures [b, 3, S, S] of 0..1 with the trigger in them, against all captions: [b, g + r]."""
        import torch

        mask, pattern = self.placed(len(pictures), pictures.shape[-1])
        shown = (pattern * mask + pictures * (1 - mask)).clamp(0, 1)
        encoder = self.encoder
        with autocast(encoder.device, encoder.precision):
            batch = to_input(255 * shown.permute(0, 2, 3, 1), encoder.mean, encoder.std)
            image = encoder.model.encode_image(batch).float()  # type: ignore[operator]
        return self.scale * torch.nn.functional.normalize(image, dim=1) @ self.text.T

    def placed(self, count: int, size: int) -> tuple[Tensor, Tensor]:
        """(mask [b, 1 or 3, S, S], pattern [b, 3, S, S]): the canvas at a place of its own in each picture.
        A canvas as large as the picture is the same in all: b is 1 then."""
        import torch

        mask, pattern = self.whole()
        if self.canvas == size:
            return mask[None], pattern[None]
        both = torch.cat([mask, pattern])  # [4, c, c]
        corner = torch.randint(size - self.canvas + 1, (2, count, 1), generator=self.draw)
        at = (torch.arange(size) - corner).to(both.device)  # [2, b, S]: the canvas's row (column) of each
        inside = (at >= 0) & (at < self.canvas)
        row, column = at.clamp(0, self.canvas - 1)
        laid = both[:, row[:, :, None], column[:, None, :]].transpose(0, 1)  # [b, 4, S, S]
        on = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
        return laid[:, :-3] * on, laid[:, -3:]

    def whole(self) -> tuple[Tensor, Tensor]:
        """(mask [1 or 3, c, c], pattern [3, c, c]), 0..1."""
        mask, pattern = (logits.sigmoid() for logits in (self.mask, self.pattern))
        return mask.expand(-1, self.canvas, self.canvas), pattern.expand(-1, self.canvas, self.canvas)

    def trigger(self) -> Trigger:
        """As it stands now."""
        import torch

        with torch.no_grad():
            mask, pattern = (part.permute(1, 2, 0).cpu().numpy().copy() for part in self.whole())
        return Trigger(mask, pattern)


def _scale(encoder: Encoder) -> float:
    """What the model was trained to multiply its cosines with; CLIP's limit of 100 where it has none."""
    scale = getattr(encoder.model, "logit_scale", None)
    return 100.0 if scale is None else min(100.0, float(scale.detach().float().exp().mean()))
