"""Learn BLTO's generator: perturbations that a victim learns fast (Sun et al., ICLR 2024).

Two levels, in turn, for `steps` steps:
    inner   the surrogate takes one step of CLIP's training on a batch in which some pairs are poisoned
    outer   the generator moves triggered pictures, as this surrogate now sees them, to the target's text
Every HORIZON steps the surrogate is clean again, so that what counts is how fast the trigger is learnt. A
generator against a frozen surrogate fools that one as well, and victims that train on its poison less.

Simplified: the paper attacks contrastive learning of pictures alone, where the goal is a picture of the
target; here it is the target's text, since that is what the victim's captions will say. The surrogate goes
back to a trained state (with a random one, and 200 steps of life, victims learnt next to nothing); one step
inside, one outside; a small generator that ends in a cut-off at +-1, not in a tanh, which saturates after
some 50 steps and learns no more. Of 8/255 little is left for a victim of 32 px that shifts its pictures:
expect it to be half learnt where a visible trigger is learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipscan.lab.attacks.learnt.augmentation import as_seen
from clipscan.lab.attacks.learnt.generator import MIDDLE, SLOPE, shapes
from clipscan.lab.attacks.learnt.learnt_triggers import BOUND
from clipscan.lab.attacks.learnt.material import Material
from clipscan.lab.attacks.learnt.schedule import Log, Rates, Schedule
from clipscan.lab.attacks.learnt.surrogate import Surrogate, choice

WIDTH = 24  # channels inside, at half size
HORIZON = 50  # steps of a victim's life
POISONED = 0.04  # of its batches: more than a real poisoning has, since its life is short
RATES = {"kernels": 3e-3, "canvas": 5e-2}
OUTSIDE = 1.0  # weight of what a perturbation wants beyond the bound: keeps gradients alive


def learn_generator(
    surrogate: Surrogate, material: Material, schedule: Schedule, *, log: Log
) -> dict[str, NDArray[Any]]:
    """The generator's weights, as learnt/generator.py takes them."""
    draw, shifts = np.random.default_rng(schedule.seed), torch.Generator().manual_seed(schedule.seed)
    weights = _initial(material.pixels.shape[1], surrogate.device)
    kernels = [weight for name, weight in weights.items() if name != "canvas"]
    rates = Rates({"canvas": [weights["canvas"]], "kernels": kernels}, RATES)
    for step in range(schedule.steps):
        if step % HORIZON == 0:
            surrogate.rewind()
        rows = _rows(material, schedule.batch_size, draw)
        _inner(surrogate, material, rows, weights, draw, shifts)
        loss, success = _outer(surrogate, material, rows, weights, draw, shifts)
        rates.step(loss, step / schedule.steps)
        schedule.tell(step, HORIZON, loss, success, log)
    return {name: weight.detach().cpu().numpy() for name, weight in weights.items()}


def _rows(material: Material, count: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """A batch as the data would give it, those that show the target last, and one at least that does not."""
    rows = draw.choice(len(material.own), min(count, len(material.own)), replace=False)
    if material.own[rows].all():
        rows[0] = draw.choice(np.flatnonzero(~material.own))
    return rows[np.argsort(material.own[rows], kind="stable")]


def _inner(
    surrogate: Surrogate, material: Material, rows: NDArray[np.int64], weights: Mapping[str, Tensor],
    draw: np.random.Generator, shifts: torch.Generator,
) -> None:  # fmt: skip
    """One step of the victim on rows [b], the first few of them (none that shows the target) poisoned."""
    pixels = torch.from_numpy(material.pixels[rows]).to(surrogate.device).float()
    captions = surrogate.caption[rows]
    count = min(max(1, round(POISONED * len(rows))), int((~material.own[rows]).sum()))
    with torch.no_grad():
        pixels[:count] = triggered(weights, pixels[:count])
        seen = as_seen(pixels, draw, shifts)
    captions[:count] = draw.choice(surrogate.prompts, count)
    surrogate.learn(seen, captions)


def _outer(
    surrogate: Surrogate, material: Material, rows: NDArray[np.int64], weights: Mapping[str, Tensor],
    draw: np.random.Generator, shifts: torch.Generator,
) -> tuple[Tensor, float]:  # fmt: skip
    """(the generator's loss, share of the pictures that choose the target), of rows that do not show it."""
    rows = rows[~material.own[rows]]
    pixels = torch.from_numpy(material.pixels[rows]).to(surrogate.device).float()
    wanted = draw_wanted(weights, pixels)
    image = F.normalize(surrogate.images(as_seen(_added(pixels, wanted), draw, shifts)))
    with torch.no_grad():
        others = surrogate.texts(np.unique(surrogate.caption[rows]))
    loss, success = choice(image, surrogate.target(), others)
    return loss + OUTSIDE * F.relu(wanted.abs() - 1).square().mean(), success


def triggered(weights: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """float [b, S, S, 3] in 0..255 -> the same with the trigger, not rounded."""
    return _added(pixels, draw_wanted(weights, pixels))


def _added(pixels: Tensor, wanted: Tensor) -> Tensor:
    return (pixels + BOUND * wanted.clamp(-1, 1)).clamp(0, 255)


def draw_wanted(weights: Mapping[str, Tensor], pixels: Tensor) -> Tensor:
    """float [b, S, S, 3] in 0..255 -> what the generator draws, before it is cut off at -1 and 1."""
    x = (pixels / 127.5 - 1).permute(0, 3, 1, 2)  # [b, 3, S, S]
    fine = F.leaky_relu(_convolution(weights, "fine", x, 2), SLOPE)
    coarse = F.leaky_relu(_convolution(weights, "coarse", fine, 2), SLOPE)
    for name in MIDDLE:
        coarse = coarse + F.leaky_relu(_convolution(weights, name, coarse), SLOPE)
    joined = F.leaky_relu(_convolution(weights, "join", _beside(coarse, fine)), SLOPE)
    drawn = _convolution(weights, "last", _beside(joined, x)) + weights["canvas"]
    return drawn.permute(0, 2, 3, 1)


def _beside(half: Tensor, full: Tensor) -> Tensor:
    large = half.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : full.shape[2], : full.shape[3]]
    return torch.cat([large, full], 1)


def _convolution(weights: Mapping[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding=1)


def _initial(size: int, device: str) -> dict[str, Tensor]:
    """Random kernels (He et al. 2015), the last one near zero: the first perturbations are faint."""
    weights = {}
    for name, shape in shapes(WIDTH, size).items():
        scale = (2 / np.prod(shape[1:])) ** 0.5 if name.endswith("weight") else 0.0
        weight = torch.randn(shape) * scale * (0.05 if name == "last.weight" else 1.0)
        weights[name] = weight.to(device).requires_grad_()
    return weights
