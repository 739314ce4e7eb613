"""The features seen last, first in, first out: the nearest of them serves as a positive (NNCLR's idea)."""

from __future__ import annotations

import torch
from torch import Tensor


class Pool:
    """The last `size` unit vectors pushed, oldest first, without gradient; a size of 0 keeps none."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: Tensor | None = None  # [at most size, d]

    def nearest(self, queries: Tensor) -> Tensor:
        """Unit vectors [b, d] -> for each the row of highest cosine; from an empty pool, the query itself."""
        if self.rows is None:
            return queries
        with torch.no_grad():
            return self.rows[(queries @ self.rows.T).argmax(dim=1)]

    def push(self, rows: Tensor) -> None:
        """Take in [b, d]; the oldest make room."""
        if self.size:
            known = [] if self.rows is None else [self.rows]
            self.rows = torch.cat([*known, rows.detach()])[-self.size :]
