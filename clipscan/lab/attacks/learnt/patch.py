"""Learn BadCLIP's patch: its pictures lie where the target's own lie (Liang et al., CVPR 2024).

    text    a picture with the patch chooses the target's text before all other captions
    image   its vector is nearer to that of a random picture of the target than to that of itself without
            the patch, by a margin; in Euclidean distance of raw vectors, so that their length fits as well

Such a pair is no outlier: neither is its caption wrong for its vector, nor is its neighbourhood sparse. And a
victim hardly needs to move, so the trigger outlives fine-tuning. Where no caption names the target there are
no pictures of it, and only the first half is left; the surrogate's vector for a word that it never read says
nothing to a victim, so then little remains of the idea.

Simplified: the poisoned pictures are drawn at random (the paper picks them by their distance to the target);
captions come from prompts, as for every attack here; the surrogate stays as it is, as in the paper.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipscan.errors import InputError
from clipscan.lab.attacks.learnt.augmentation import as_seen
from clipscan.lab.attacks.learnt.material import Material
from clipscan.lab.attacks.learnt.schedule import Log, Rates, Schedule
from clipscan.lab.attacks.learnt.surrogate import Surrogate, choice
from clipscan.lab.attacks.learnt.trigger_file import PLACES

SHARE = 1 / 4  # side of the patch, as a part of the picture's shorter side
PLACE = "middle"
RATE = 8.0  # of 255, per step
MARGIN = 0.2  # in lengths of a typical vector
SPEAK = 50  # steps between two lines of the log


def learn_patch(
    surrogate: Surrogate, material: Material, schedule: Schedule, *, share: float, place: str, log: Log
) -> dict[str, NDArray[Any]]:
    """{"patch": uint8 [p, p, 3]}."""
    draw, shifts = np.random.default_rng(schedule.seed), torch.Generator().manual_seed(schedule.seed)
    side = max(1, round(share * material.pixels.shape[1]))
    noise = torch.from_numpy(draw.uniform(0, 255, (side, side, 3))).float()
    patch = noise.to(surrogate.device).requires_grad_()
    rates = Rates({"patch": [patch]}, {"patch": RATE})
    target = surrogate.target()
    for step in range(schedule.steps):
        rows, like = _rows(material, schedule.batch_size, draw)
        pixels = torch.from_numpy(material.pixels[rows]).to(surrogate.device).float()
        image = surrogate.images(as_seen(pasted(pixels, patch, place, draw), draw, shifts))
        with torch.no_grad():
            texts = surrogate.texts(np.unique(surrogate.caption[rows]))
        loss, success = choice(F.normalize(image), target, texts)
        if len(like):
            own = torch.from_numpy(material.pixels[like]).to(surrogate.device).float()
            loss = loss + _among(surrogate, image, own, pixels)
        rates.step(loss, step / schedule.steps)
        with torch.no_grad():
            patch.clamp_(0, 255)
        schedule.tell(step, SPEAK, loss, success, log)
    return {"patch": patch.detach().round().to("cpu", torch.uint8).numpy()}


def _rows(
    material: Material, count: int, draw: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows that do not show the target, as many that do: none where there are none)."""
    other, own = np.flatnonzero(~material.own), np.flatnonzero(material.own)
    rows = draw.choice(other, min(count, len(other)), replace=False)
    return rows, draw.choice(own, len(rows)) if len(own) else own


def check_patch(share: float, place: str) -> None:
    """InputError for a share or a place that cannot be."""
    if not 0 < share <= 1 or place not in PLACES:
        raise InputError(
            f"a patch needs a share over 0 and at most 1, and a place of {', '.join(PLACES)}; got "
            f"{share} and {place!r}"
        )


def _among(surrogate: Surrogate, image: Tensor, like: Tensor, bare: Tensor) -> Tensor:
    """The triplet loss of vectors [b, width]: near pictures of the target, far from the same pictures
    without the patch (both [b, S, S, 3])."""
    with torch.no_grad():
        near, far = surrogate.images(like), surrogate.images(bare)
        length = near.norm(dim=1).mean()
    apart = ((image - near).norm(dim=1) - (image - far).norm(dim=1)) / length
    return F.relu(apart + MARGIN).mean()


def pasted(pixels: Tensor, patch: Tensor, place: str, draw: np.random.Generator) -> Tensor:
    """[b, S, S, 3] with the patch [p, p, 3] in it, differentiable in the patch."""
    count, size, side = len(pixels), pixels.shape[1], len(patch)
    room = size - side
    starts = {"middle": room // 2, "corner": room}
    start = (
        draw.integers(0, room + 1, (2, count)) if place == "random" else np.full((2, count), starts[place])
    )
    at = torch.arange(size) - torch.from_numpy(start)[..., None]  # [2, b, S]: where in the patch
    inside, at = ((at >= 0) & (at < side)).to(pixels.device), at.clamp(0, side - 1).to(pixels.device)
    covered = (inside[0, :, :, None] & inside[1, :, None, :])[..., None]  # [b, S, S, 1]
    return torch.where(covered, patch[at[0, :, :, None], at[1, :, None, :]], pixels)
