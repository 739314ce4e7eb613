"""Scores from a table of neighbours, by gathers, in float64. clipscan/engine/reference.py is the definition,
edge rules too.

Plain torch: the work is reading memory, and it is little beside the search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from clipscan.engine.neighbors import Array
from clipscan.engine.reference import MAX_LID, MAX_SCORE

from . import waiting

BLOCK = 1 << 22  # numbers of a table looked at together: a dozen float64 arrays of that size at most
TINY = torch.finfo(torch.float64).tiny


def density(
    distance: Array, index: Array, reference: Mapping[str, Array] | None, device: torch.device
) -> dict[str, Array]:
    """kdist, lid, lid_mom, lrd, lof, slof, dao, logdao [n] from a table [n, k]; `reference` holds those of
    its rows.
    """

    def each_block(function: Callable[[Any, Any, Any], tuple[Any, ...]]) -> list[Any]:
        """function(r, index, there [rows, k]), r float64 -> arrays [n]."""
        parts = []
        n, k = distance.shape
        rows = max(1, BLOCK // max(1, k))
        for begin in range(0, max(n, 1), rows):
            number = torch.from_numpy(index[begin : begin + rows].copy()).to(device)
            there = number >= 0
            r = torch.from_numpy(distance[begin : begin + rows].copy()).to(device).double()
            parts.append(function(torch.where(there, r, 0.0), number.clamp(min=0), there))
        return [torch.cat(columns) for columns in zip(*parts, strict=True)]

    def others(name: str) -> Any:
        return out[name] if reference is None else torch.from_numpy(reference[name].copy()).to(device)

    out: dict[str, Any] = {}
    out["kdist"], out["lid"], out["lid_mom"] = each_block(_own)
    kdist = others("kdist")
    (out["lrd"],) = each_block(lambda r, o, there: _lrd(r, kdist[o], there))
    lid, lrd = others("lid"), others("lrd")
    rows = _Slices(out["kdist"], out["lrd"])

    def ratios(r: Any, o: Any, there: Any) -> tuple[Any, ...]:
        own, own_lrd = rows.next(len(r))
        return _ratios(own, own_lrd, kdist[o], lid[o], lrd[o], there)

    out |= dict(zip(("lof", "slof", "dao", "logdao"), each_block(ratios), strict=True))
    waiting.rest(device)
    return {name: column.cpu().numpy() for name, column in out.items()}


class _Slices:
    """Columns handed out a block at a time."""

    def __init__(self, *columns: Any):
        self._columns, self._at = columns, 0

    def next(self, rows: int) -> list[Any]:
        begin, self._at = self._at, self._at + rows
        return [column[begin : self._at, None] for column in self._columns]


def _own(r: Any, index: Any, there: Any) -> tuple[Any, ...]:
    count = there.sum(dim=1)
    kdist = r.gather(1, (count - 1).clamp(min=0)[:, None])  # [rows, 1], 0 where nobody is
    used = there & (r > 0)
    logs = torch.where(used, torch.log(kdist / torch.where(used, r, 1.0)), 0.0).sum(dim=1)
    some = used.sum(dim=1)
    lid = torch.where(some > 0, 1 / (logs / some.clamp(min=1)).clamp(min=1 / MAX_LID), 0.0)
    mean = r.sum(dim=1) / count.clamp(min=1)
    spread = torch.maximum(kdist[:, 0] - mean, mean / MAX_LID)
    return kdist[:, 0], lid, torch.where(mean > 0, mean / torch.where(mean > 0, spread, 1.0), 0.0)


def _lrd(r: Any, kdist: Any, there: Any) -> tuple[Any, ...]:
    reach = torch.where(there, torch.maximum(kdist, r), 0.0).sum(dim=1)
    return (torch.where(reach > 0, there.sum(dim=1) / reach, math.inf),)


def _ratios(own: Any, own_lrd: Any, kdist: Any, lid: Any, lrd: Any, there: Any) -> tuple[Any, ...]:
    """Rows inside k + 1 copies of one point are left out; where all are, the scores are neutral."""
    there = there & (kdist > 0)
    count = there.sum(dim=1)

    def mean(values: Any) -> Any:
        return torch.where(there, values, 0.0).sum(dim=1) / count.clamp(min=1)

    ratio = own / torch.where(there, kdist, 1.0)
    power = lid * torch.log(ratio.clamp(min=TINY))
    top = torch.where(there, power, -math.inf).amax(dim=1, keepdim=True)
    top = torch.where(count[:, None] > 0, top, 0.0)
    dao = torch.exp((top[:, 0] + torch.log(mean(torch.exp(power - top)))).clamp(max=math.log(MAX_SCORE)))
    scores = mean(lrd / own_lrd), mean(ratio), dao.clamp(max=MAX_SCORE), mean(power)
    return tuple(
        torch.where(count > 0, score, neutral)
        for score, neutral in zip(scores, (1.0, 1.0, 1.0, 0.0), strict=True)
    )


def mean_cosine(a: Array, b: Array, index: Array, device: torch.device) -> Array:
    """out[i] = mean over j of cos(a_i, b_index[i, j]); a zero vector has cosine 0, "nobody" is left out."""
    out = torch.zeros(len(a), dtype=torch.float64)
    others = torch.from_numpy(b).to(device)
    length = _length(others)
    rows = max(1, BLOCK // max(1, a.shape[1]))
    for begin in range(0, len(a), rows):
        number = torch.from_numpy(index[begin : begin + rows].copy()).to(device)
        query = torch.from_numpy(a[begin : begin + rows]).to(device).double()
        own = query.norm(dim=1)
        sum, count = torch.zeros_like(own), (number >= 0).sum(dim=1)
        for neighbour in number.T:
            o = neighbour.clamp(min=0)
            lengths = own * length[o]
            cosine = (query * others[o]).sum(dim=1) / torch.where(lengths > 0, lengths, 1.0)
            sum += torch.where((neighbour >= 0) & (lengths > 0), cosine, 0.0)
        out[begin : begin + rows] = (sum / count.clamp(min=1)).cpu()
    return out.numpy()


def _length(x: Any) -> Any:
    """[n] float64, a block at a time."""
    parts = torch.split(x, max(1, BLOCK // x.shape[1]))
    return torch.cat([part.double().norm(dim=1) for part in parts])
