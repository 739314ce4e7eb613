"""An encoder whose picture vectors are repaired: whatever embeds with an Encoder embeds with this."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from clipscan.embed.model import Encoder
from clipscan.errors import InputError
from clipscan.heads.decompose import picture_terms
from clipscan.heads.fit import check_same
from clipscan.heads.statistics import BRANCHES, Fit, repair
from clipscan.heads.tower import check_tower

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RepairedEncoder(Encoder):
    """Captions as before; pictures as `repair` leaves them."""

    fit: Fit
    branch: str

    def image_vectors(self, pixels: Tensor) -> Tensor:
        """uint8 [b, S, S, 3] -> float32 [b, width], both on the device; inside computing()."""
        import torch

        vectors = repair(self.fit, picture_terms(self, pixels), self.branch)
        return torch.from_numpy(vectors).to(pixels.device)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"repair": self.branch, "fit": self.fit.digest}


def repaired(encoder: Encoder, fit: Fit, branch: str = "auto") -> RepairedEncoder:
    """`encoder` with a repair behind it; branch: auto | head | mlp, see statistics.repair.

    InputError for another branch, a fit of another encoder, or a model without decomposition.
    """
    if branch not in BRANCHES:
        raise InputError(f"branch must be one of {', '.join(BRANCHES)}, got {branch!r}")
    check_tower(encoder)
    check_same(fit, encoder)
    own = {field.name: getattr(encoder, field.name) for field in fields(Encoder)}
    return RepairedEncoder(**own | {"compiled": False}, fit=fit, branch=branch)
