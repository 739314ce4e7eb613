"""What a back-end can serve, so that the dispatcher can refuse the rest in words; and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

FEW_ROWS = 10_000  # below this no budget of memory is refused: it all fits in a few MB


class Limits(NamedTuple):
    max_k: int = 1 << 20
    max_d: int = 1 << 20

    def refusal(self, k: int, d: int) -> str | None:
        """Why a search of k neighbours in width d cannot be served, None where it can."""
        if k > self.max_k:
            return f"keeps at most {self.max_k} neighbours, got k={k}"
        if d > self.max_d:
            return f"takes rows of at most {self.max_d} numbers, got d={d}"
        return None


@dataclass
class Counts:
    """What a search did, for benchmarks: pairs its filter could not rule out, pairs measured in float32."""

    passed: int = 0
    measured: int = 0
