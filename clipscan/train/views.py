"""Two looks at the same thing: random views of pictures and of captions, for the unimodal losses of SafeCLIP.

Pictures as its authors augment them: crop, flip, colour jitter, grey, blur, with torchvision's default
strengths. torchvision draws one set of parameters a call; here every picture of a batch has its own, and the
batch goes through each step at once, on whatever device it lies. Numbers are drawn on the CPU, so that a
seed means the same everywhere. Captions get one edit of EDA (Wei and Zou 2019); of its four the
replacement by a synonym is left out, which needs a thesaurus, and what is inserted is a word of the caption.
"""

from __future__ import annotations

import math
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop: share of the picture, width to height
JITTERED = 0.8  # probability of colour jitter
FACTOR, TURN = (0.5, 1.5), (-0.1, 0.1)  # of brightness, contrast and saturation; of the hue, in whole turns
GREY = 0.2  # probability
SIGMA = (0.1, 2.0)  # of the blur, in pixels
BLUR_PART = 11  # the blur's kernel is this part of the picture: 21 pixels of 224, 3 of 32
EDITED = 0.1  # share of a caption's words that an edit touches; at least one

# RGB -> luma and two axes of colour (NTSC's YIQ): saturation scales these, and a change of hue turns them.
YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def picture_views(pixels: Tensor, generator: torch.Generator, *, flip: bool = True) -> Tensor:
    """uint8 [b, S, S, 3] -> a random view of each, same shape and type. `generator` lives on the CPU."""
    count, size = pixels.shape[:2]
    picture = pixels.permute(0, 3, 1, 2).float() / 255  # [b, 3, S, S]
    view = crop(picture, *_boxes(count, generator), _chance(count, 0.5 if flip else 0.0, generator))
    brightness, contrast, saturation, turn = _jitter(count, generator)
    view = contrasted((view * _each(brightness, view)).clamp(0, 1), contrast)
    view = recoloured(view, saturation, turn)
    view = blurred(view, _between(SIGMA, count, generator), (size // BLUR_PART) | 1)
    return (view * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _boxes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crops: (extent [b, 2], centre [b, 2]) as (x, y); the whole picture goes from -1 to 1."""
    area = _between(AREA, count, generator)
    ratio = _between((math.log(RATIO[0]), math.log(RATIO[1])), count, generator).exp()
    extent = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)
    place = 2 * torch.rand(count, 2, generator=generator) - 1
    return extent, place * (1 - extent)


def crop(picture: Tensor, extent: Tensor, centre: Tensor, mirrored: Tensor) -> Tensor:
    """[b, 3, S, S] -> the same shape: each picture's own box enlarged, mirrored [b] ones turned round."""
    across = torch.where(mirrored, -extent[:, 0], extent[:, 0])
    nothing = torch.zeros_like(across)
    x = torch.stack([across, nothing, centre[:, 0]], 1)
    y = torch.stack([nothing, extent[:, 1], centre[:, 1]], 1)
    theta = torch.stack([x, y], 1).to(picture.device)  # [b, 2, 3]
    grid = F.affine_grid(theta, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def _jitter(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Brightness, contrast, saturation and turn of hue, [b] each; a grey picture has no saturation."""
    jittered = _chance(count, JITTERED, generator)
    factors = [torch.where(jittered, _between(FACTOR, count, generator), 1.0) for _ in range(3)]
    turn = torch.where(jittered, _between(TURN, count, generator), 0.0)
    saturation = torch.where(_chance(count, GREY, generator), 0.0, factors[2])
    return factors[0], factors[1], saturation, turn


def contrasted(picture: Tensor, contrast: Tensor) -> Tensor:
    """Each picture [b, 3, S, S] drawn towards, or away from, its own mean grey."""
    luma = torch.tensor(YIQ[0], device=picture.device)
    grey = torch.einsum("bcij,c->bij", picture, luma).mean((1, 2))[:, None, None, None]
    return (grey + (picture - grey) * _each(contrast, picture)).clamp(0, 1)


def recoloured(picture: Tensor, saturation: Tensor, turn: Tensor) -> Tensor:
    """Colours scaled by saturation [b] and turned by `turn` [b] circles, one matrix a picture."""
    angle = 2 * math.pi * turn
    change = torch.zeros(len(turn), 3, 3)
    change[:, 0, 0] = 1
    change[:, 1, 1] = change[:, 2, 2] = saturation * angle.cos()
    change[:, 1, 2] = saturation * angle.sin()
    change[:, 2, 1] = -change[:, 1, 2]
    to_yiq = torch.tensor(YIQ)
    matrix = torch.linalg.inv(to_yiq) @ change @ to_yiq  # [b, 3, 3]
    return torch.einsum("bcij,bkc->bkij", picture, matrix.to(picture.device)).clamp(0, 1)


def blurred(picture: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """A Gaussian blur of sigma [b] pixels, in an odd `kernel` of them; its border is a mirror."""
    half, planes = kernel // 2, picture.shape[0] * picture.shape[1]
    step = torch.arange(-half, half + 1)
    weight = torch.softmax(-0.5 * (step / sigma[:, None]) ** 2, 1)  # [b, kernel]
    weight = weight.repeat_interleave(picture.shape[1], 0).to(picture.device)[:, None]  # [3b, 1, kernel]
    flat = F.pad(picture, (half, half, half, half), mode="reflect").flatten(0, 1)[None]  # [1, 3b, ...]
    flat = F.conv2d(flat, weight[..., None], groups=planes)
    return F.conv2d(flat, weight[..., None, :], groups=planes).reshape(picture.shape)


def _chance(count: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < probability


def _between(limits: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * torch.rand(count, generator=generator)


def _each(factor: Tensor, picture: Tensor) -> Tensor:
    return factor.to(picture.device)[:, None, None, None]


def caption_view(caption: str, random: Random) -> str:
    """One edit: two words exchanged, words left out, or a word of the caption put in once more elsewhere.

    Each touches a tenth of the words, at least one. A caption of one word stays as it is.
    """
    words = caption.split()
    if len(words) < 2:
        return caption
    edit = random.choice((_swap, _delete, _insert))
    for _ in range(max(1, round(EDITED * len(words)))):
        edit(words, random)
    return " ".join(words)


def _swap(words: list[str], random: Random) -> None:
    a, b = random.sample(range(len(words)), 2)
    words[a], words[b] = words[b], words[a]


def _delete(words: list[str], random: Random) -> None:
    del words[random.randrange(len(words))]


def _insert(words: list[str], random: Random) -> None:
    words.insert(random.randrange(len(words) + 1), random.choice(words))
