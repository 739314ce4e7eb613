"""Rows made on a GPU, and what an answer of a search among them is worth."""

from __future__ import annotations

import numpy as np
import torch

from clipscan.bench.exact import SPARE, TIE

CHECKED = 500  # rows whose neighbours are compared with float64
BLOCK = 1 << 18  # rows generated, or compared with float64, at once


def clustered(n: int, d: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """As clipscan.bench.clustered, made on the device."""
    dice = torch.Generator("cuda").manual_seed(seed)
    centres = torch.randn(max(2, n // 100), d, device="cuda", generator=dice)
    x = torch.empty(n, d, dtype=dtype, device="cuda")
    for begin in range(0, n, BLOCK):
        part = x[begin : begin + BLOCK]
        which = torch.randint(len(centres), (len(part),), device="cuda", generator=dice)
        rows = centres[which] + 0.6 * torch.randn(part.shape, device="cuda", generator=dice)
        part.copy_(torch.nn.functional.normalize(rows))
    return x


def recall(x: torch.Tensor, index: torch.Tensor, k: int) -> float:
    """Of CHECKED random rows: the share of the neighbours index [n, k] that are no farther than the exact
    k-th, in float64 and up to ties. A row itself, a neighbour named twice and nobody (-1) are wrong."""
    some = np.random.default_rng(1).choice(len(x), min(CHECKED, len(x)), replace=False)
    rows = torch.from_numpy(some).to(x.device)
    wide = x[rows].double()
    candidates = torch.cat([_nearest(x, begin, rows, wide, k) for begin in range(0, len(x), BLOCK)], dim=1)
    kth = _distances(x, candidates, wide).sort(dim=1).values[:, k - 1 : k]
    found = index[rows].long().sort(dim=1).values
    known = (found.diff(dim=1, prepend=torch.full_like(found[:, :1], -1)) > 0) & (found != rows[:, None])
    near = _distances(x, found.clamp(0), wide) <= kth * (1 + TIE)
    return float((known & near).double().mean())


def _nearest(x: torch.Tensor, begin: int, rows: torch.Tensor, wide: torch.Tensor, k: int) -> torch.Tensor:
    """Candidates among rows from `begin` on, by the expanded form in float64."""
    part = x[begin : begin + BLOCK].double()
    far = (part * part).sum(dim=1) - 2 * wide @ part.T
    inside = (rows >= begin) & (rows < begin + len(part))
    far[inside.nonzero()[:, 0], rows[inside] - begin] = torch.inf
    return begin + far.topk(min(k + SPARE, len(part) - 1), largest=False).indices


def _distances(x: torch.Tensor, index: torch.Tensor, wide: torch.Tensor) -> torch.Tensor:
    return torch.stack([(x[some].double() - row).norm(dim=1) for some, row in zip(index, wide, strict=True)])
