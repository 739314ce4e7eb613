"""The image embedding of an open_clip ViT as an exact sum: first token, heads and MLPs of every block.

With z the pooled token behind the last of L blocks, z_0 behind ln_pre, H heads of width e:

    z        = z_0 + sum_l ( sum_h a_lh + m_l )
    a_lh     = (softmax(q K^T / sqrt e) V)_h W_O^h + b_O / H      the query of the pooled token only
    m_l      = the block's MLP output, bias included
    LN(t)    = gamma (t - mean t) / sigma(z) + beta / T           for each of the T terms of z
    r        = LN(t) P / |LN(z) P|                                ln_post, projection, length

He et al. 2025, after Gandelsman et al. 2024 (Interpreting CLIP's Image Representation via Text-Based
Decomposition). Layer scale is linear, so it belongs to the term. A mean over the patch tokens (pool "avg")
is linear too: there a term is the mean of what the tokens get. No token pair is stored: beside the forward
pass a picture costs O(L H w) numbers, and of the last block only the rows that are pooled are computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.embed.network import to_input

if TYPE_CHECKING:
    from torch import Tensor

    from clipscan.embed.model import Encoder

Floats = NDArray[np.float32]
Module = Any  # one of open_clip's: torch types the attributes of a module as tensors


class Terms(NamedTuple):
    """b embeddings of width d, each divided by its length, as sums of L blocks with H heads."""

    initial: Floats  # [b, d], what came into the first block
    blocks: Floats  # [b, L, H + 1, d]: the heads, then the MLP
    length: Floats  # [b], of the embeddings as the model gives them

    def total(self) -> Floats:
        """[b, d]: the normalised embeddings."""
        return self.initial + self.blocks.sum(axis=(1, 2))


def decompose(encoder: Encoder, pixels: NDArray[np.uint8]) -> Terms:
    """uint8 [b, S, S, 3] -> the terms of b embeddings, for a model that check_tower lets through.

    In fp32 they add up to the normalised embedding within 1e-4; in bf16 and fp16 as well as those round.
    Terms are not finite where the embedding is not, or has no length.
    """
    import torch

    with encoder.computing():
        return picture_terms(encoder, torch.from_numpy(pixels).to(encoder.device))


def picture_terms(encoder: Encoder, pixels: Tensor) -> Terms:
    """The same of uint8 [b, S, S, 3] on the encoder's device; inside encoder.computing()."""
    visual: Module = encoder.model.visual
    terms = _terms(visual, to_input(pixels, encoder.mean, encoder.std))  # [b, T, w]
    folded = _folded(visual.ln_post, terms) @ visual.proj
    folded = folded.float()
    length = folded.sum(dim=1).norm(dim=1)
    unit = (folded / length[:, None, None]).cpu().numpy()
    layers = len(visual.transformer.resblocks)
    blocks = unit[:, 1:].reshape(len(unit), layers, -1, unit.shape[-1])
    return Terms(unit[:, 0], blocks, length.cpu().numpy())


def _terms(visual: Module, batch: Tensor) -> Tensor:
    """[b, 3, S, S] -> [b, 1 + L (H + 1), w]: the pooled token's terms before ln_post, initial one first."""
    import torch

    x = visual._embeds(batch)  # [b, tokens, w]
    mean = visual.pool_type == "avg"
    terms = [_pooled(x, mean)[:, None]]
    blocks = list(visual.transformer.resblocks)
    for block in blocks:
        rows = 1 if block is blocks[-1] and not mean else x.shape[1]
        gathered = _gathered(block.attn, block.ln_1(x), rows)  # [b, rows, H, e]
        x = x[:, :rows] + block.ls_1(_attended(block, gathered.flatten(2)))
        mlp = block.ls_2(block.mlp(block.ln_2(x)))
        x = x + mlp
        terms += [_head_terms(block, _pooled(gathered, mean)), _pooled(mlp, mean)[:, None]]
    return torch.cat([term.float() for term in terms], dim=1)


def _pooled(x: Tensor, mean: bool) -> Tensor:
    """[b, tokens, ...] -> [b, ...]: the first token, or the mean of all others."""
    return x[:, 1:].mean(dim=1) if mean else x[:, 0]


def _gathered(attn: Module, x: Tensor, rows: int) -> Tensor:
    """What each head gathers for the first `rows` tokens: [b, tokens, w] -> [b, rows, H, e]."""
    import torch.nn.functional as F

    width, heads = x.shape[-1], attn.num_heads
    weight, bias = attn.in_proj_weight, attn.in_proj_bias
    query = F.linear(x[:, :rows], weight[:width], bias[:width])
    key, value = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
    query, key, value = (one.unflatten(2, (heads, -1)).transpose(1, 2) for one in (query, key, value))
    query, key = (_or_same(attn, "ln_q", query), _or_same(attn, "ln_k", key))
    gathered = F.scaled_dot_product_attention(query, key, value)
    if getattr(attn, "head_scale", None) is not None:
        gathered = gathered * attn.head_scale
    return gathered.transpose(1, 2)


def _attended(block: Module, gathered: Tensor) -> Tensor:
    """What the heads give together, before layer scale: [b, rows, w] -> [b, rows, w]."""
    attn = block.attn
    return _or_same(block, "ln_attn", attn.out_proj(_or_same(attn, "ln_inner", gathered)))


def _head_terms(block: Module, gathered: Tensor) -> Tensor:
    """The same for one row, apart: [b, H, e] -> [b, H, w]. Each head alone in the place that it has among
    all, through the norms of the whole and the output projection, with an equal share of its bias."""
    import torch

    attn, heads = block.attn, gathered.shape[1]
    alone = torch.eye(heads, device=gathered.device, dtype=gathered.dtype)[..., None]  # [H, H, 1]
    terms = (gathered[:, None] * alone).flatten(2)  # [b, H, w]
    terms = _folded(getattr(attn, "ln_inner", None), terms)
    terms = terms @ attn.out_proj.weight.T + attn.out_proj.bias / heads
    return block.ls_1(_folded(getattr(block, "ln_attn", None), terms))


def _folded(norm: Module, terms: Tensor) -> Tensor:
    """[b, T, w] -> [b, T, w] whose sum is norm(their sum): each centred by its own mean and divided by the
    deviation of the whole, with an equal share of the bias."""
    if getattr(norm, "weight", None) is None:  # open_clip puts Identity where there is no norm
        return terms
    whole = terms.float().sum(dim=1, keepdim=True)
    sigma = (whole.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    centred = terms - terms.mean(dim=-1, keepdim=True)
    return norm.weight * centred / sigma + norm.bias / terms.shape[1]


def _or_same(owner: Module, name: str, x: Tensor) -> Tensor:
    """x through owner's module of that name, or as it is: only open_clip's custom blocks have them all."""
    return getattr(owner, name)(x) if hasattr(owner, name) else x
