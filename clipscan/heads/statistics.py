"""Terms against those of clean pictures: scores, infected heads, repair. NumPy in, NumPy out.

    s_lh(x)  = < r_lh(x), prototype_lh >             alignment; a prototype is the mean of clean pictures
    infected = s_Lh(x) < floor_h                     a head of the last block
    shortfall= (mean_lh - s_lh(x)) / scale_lh        in standard deviations of clean pictures
    head score = mean shortfall of the last block's heads, MLP score = that of the late MLPs

He et al. 2025 take one floor (their epsilon) for all heads, and know the attack where they choose between
heads and MLPs. Here floors and threshold come from clean pictures (calibrate.py); both scores are in standard
deviations of clean pictures, so the larger one says through which a picture deviates.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.heads.decompose import Floats, Terms

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

BRANCHES = ("auto", "head", "mlp")
LATE = 5 / 12  # of the MLPs, rounded up: the paper's 8 to 12 of 12


@dataclass(frozen=True)
class Fit:
    """What clean pictures look like to one encoder with L blocks and H heads, width d. The last column of
    the tables is the MLP."""

    prototype: Floats  # [L, H + 1, d]
    mean: Doubles  # [L, H + 1], of the alignments of clean pictures
    scale: Doubles  # [L, H + 1], their standard deviation, never zero
    floor: Doubles  # [H]: a head of the last block that aligns less is infected
    unit: Doubles  # [2]: standard deviations of the mean shortfalls, heads and MLPs
    threshold: float  # a picture whose larger score is above is flagged
    settings: dict[str, Any]  # encoder, rate, counts: plain JSON

    @property
    def late(self) -> int:
        """How many of the last MLPs count."""
        return late_mlps(len(self.mean))

    @property
    def digest(self) -> str:
        """sha256 over numbers and settings: for the fingerprint of what is computed with it."""
        arrays = (self.prototype, self.mean, self.scale, self.floor, self.unit)
        digest = hashlib.sha256(json.dumps([self.threshold, self.settings], sort_keys=True).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class Judgement(NamedTuple):
    """What is known of b pictures. Scores in standard deviations of clean pictures, higher = more
    suspicious."""

    infected: Mask  # [b, H], heads of the last block
    head_score: Doubles  # [b]
    mlp_score: Doubles  # [b]
    flagged: Mask  # [b]
    shortfall: Doubles  # [b, L, H + 1]

    @property
    def infected_heads(self) -> NDArray[np.int64]:
        """[b]: the paper's count; it drops pictures with more than 5 of 12."""
        return self.infected.sum(axis=1)

    @property
    def score(self) -> Doubles:
        """[b]: the larger of the two."""
        return np.maximum(self.head_score, self.mlp_score)

    @property
    def branch(self) -> NDArray[np.str_]:
        """[b] of "head", "mlp", or "none" where a picture is not flagged."""
        return np.where(~self.flagged, "none", np.where(self.head_score >= self.mlp_score, "head", "mlp"))


def late_mlps(layers: int) -> int:
    """How many of the last MLPs count, of so many."""
    return math.ceil(LATE * layers)


def align(terms: Terms, prototype: Floats) -> Doubles:
    """[b, L, H + 1]: dot product of every term with its prototype."""
    return np.einsum("blhd,lhd->blh", terms.blocks, prototype).astype(np.float64)


def mean_shortfalls(shortfall: Doubles) -> tuple[Doubles, Doubles]:
    """[b, L, H + 1] -> (mean over the last block's heads [b], mean over the late MLPs [b])."""
    late = late_mlps(shortfall.shape[1])
    return shortfall[:, -1, :-1].mean(axis=1), shortfall[:, -late:, -1].mean(axis=1)


def judge(fit: Fit, alignment: Doubles) -> Judgement:
    """Scores and flags from the alignments [b, L, H + 1] of b pictures."""
    shortfall = (fit.mean - alignment) / fit.scale
    head, mlp = mean_shortfalls(shortfall)
    head, mlp = head / fit.unit[0], mlp / fit.unit[1]
    infected = alignment[:, -1, :-1] < fit.floor
    return Judgement(infected, head, mlp, np.maximum(head, mlp) > fit.threshold, shortfall)


def repair(fit: Fit, terms: Terms, branch: str = "auto") -> Floats:
    """[b, d]: the embeddings, of the length that the model gave them, with suspicious terms replaced by
    clean means.

    branch "head": the infected heads, in every picture; "mlp": all late MLPs, in every picture (the paper's
    two repairs); "auto": in flagged pictures only, the one or the other by the larger score. Pictures in
    which nothing is replaced keep their embedding, but for rounding.
    """
    replaced = _replaced(fit, judge(fit, align(terms, fit.prototype)), branch)
    change = np.where(replaced[..., None], fit.prototype - terms.blocks, np.float32(0)).sum(axis=(1, 2))
    repaired: Floats = (terms.total() + change) * terms.length[:, None]
    return repaired


def _replaced(fit: Fit, judged: Judgement, branch: str) -> Mask:
    """[b, L, H + 1]: the terms that a repair replaces."""
    head = np.zeros(judged.shortfall.shape, np.bool_)
    mlp = head.copy()
    head[:, -1, :-1] = judged.infected
    mlp[:, -fit.late :, -1] = True
    if branch == "auto":
        chosen = judged.branch[:, None, None]
        return np.where(chosen == "head", head, np.where(chosen == "mlp", mlp, False))
    return {"head": head, "mlp": mlp}[branch]
