"""Train only the rows of the token table that the captions use.

CLIP's tokenizer has 49,408 tokens; a dataset at hand uses a few hundred or thousand. A row that never
occurs gets no gradient, and AdamW without decay leaves it where it was, so stepping over the used rows
alone computes the very same weights: for small models in a fraction of the time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UsedRows(nn.Module):
    """Stands in for an nn.Embedding while it is trained; tokens outside `used` must not occur."""

    slot: Tensor
    used: Tensor

    def __init__(self, table: nn.Embedding, used: Tensor) -> None:
        """table [vocabulary, width]; used [u] distinct token numbers, ascending."""
        super().__init__()
        slot = torch.zeros(table.num_embeddings, dtype=torch.int64)
        slot[used] = torch.arange(len(used))
        self.register_buffer("slot", slot, persistent=False)
        self.register_buffer("used", used, persistent=False)
        self.weight = nn.Parameter(table.weight.detach()[used].clone())  # [u, width]
        self.table = (table,)  # a tuple hides it from parameters() and state_dict()

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(self.slot[tokens], self.weight)

    def whole(self) -> nn.Embedding:
        """The table, with the trained rows put back."""
        (table,) = self.table
        with torch.no_grad():
            table.weight[self.used.cpu()] = self.weight.cpu()
        return table


def narrow(network: nn.Module, used: Tensor) -> None:
    """Train only these rows from here on (before the network leaves the CPU).

    Nothing happens to text towers without a plain token table.
    """
    text: nn.Module = getattr(network, "text", network)
    table = getattr(text, "token_embedding", None)
    if isinstance(table, nn.Embedding):
        text.token_embedding = UsedRows(table, used)


def widen(network: nn.Module) -> None:
    """Undo narrow(): the network has its whole table again, with what was learnt."""
    text: nn.Module = getattr(network, "text", network)
    rows = getattr(text, "token_embedding", None)
    if isinstance(rows, UsedRows):
        text.token_embedding = rows.whole()
