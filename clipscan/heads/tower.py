"""Which models can be written as a sum over heads; all others are refused in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clipscan.errors import InputError
from clipscan.heads.decompose import decompose

if TYPE_CHECKING:
    from torch import nn

    from clipscan.embed.model import Encoder

EXACT, ROUNDED = 1e-4, 5e-2  # largest error of a component of the unit embedding; bf16 keeps 8 bits
REMEDY = (
    "Name a plain ViT of open_clip's (ViT-B-32, ViT-B-16, ViT-L-14), or train one: "
    "clipscan train DATASET --model clipscan-vit-32"
)


def check_tower(encoder: Encoder) -> None:
    """InputError unless the picture embedding of this model is an exact sum over heads and MLPs.

    The build is looked at first; then two pictures of noise go both ways, so that a tower of a later
    open_clip that computes something else is found out.
    """
    visual = encoder.model.visual
    if reason := _refusal(visual):  # type: ignore[arg-type]
        raise InputError(f"{encoder.name} cannot be taken apart into heads: {reason}. {REMEDY}")
    shape = (2, encoder.image_size, encoder.image_size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    plain = encoder.encode_images(noise)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    error = float(np.abs(decompose(encoder, noise).total() - plain).max())
    if not error <= (EXACT if encoder.precision == "fp32" else ROUNDED):
        raise InputError(
            f"{encoder.name} cannot be taken apart into heads: the terms miss its embedding by {error:.2g}, "
            f"so this tower computes something unknown here. {REMEDY}"
        )


def _refusal(visual: nn.Module) -> str:
    """The reason against it; empty where there is none."""
    from open_clip.transformer import VisionTransformer

    if not isinstance(visual, VisionTransformer):
        what = type(visual).__name__
        kinds = {
            "TimmModel": "it is a tower of timm's",
            "ModifiedResNet": "it is a ResNet, without blocks of heads",
        }
        return kinds.get(what, f"its picture tower is a {what}")
    if visual.attn_pool is not None:
        return "it pools all tokens by another attention, so no single token is the embedding"
    if visual.pool_type == "none":
        return "it does not pool its tokens into one embedding"
    custom = [block.attn for block in visual.transformer.resblocks if hasattr(block, "ln_attn")]
    if any(attn.logit_scale is not None for attn in custom):
        return "its attention is scaled cosine, which open_clip itself does not run"
    if visual.pool_type == "avg":
        return _refusal_of_mean(visual)
    return ""


def _refusal_of_mean(visual: nn.Module) -> str:
    """A norm scales each token by its own deviation; behind one, their mean is no sum of terms."""
    normed = any(
        hasattr(norm, "eps")
        for block in visual.transformer.resblocks  # type: ignore[union-attr]
        for norm in (getattr(block, "ln_attn", None), getattr(block.attn, "ln_inner", None))
    )
    if normed or not visual.final_ln_after_pool:
        return "it averages its tokens behind a norm, which scales each of them differently"
    return ""
