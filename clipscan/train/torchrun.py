"""Rank and number of processes of a training, from the environment variables of torchrun. Needs no torch."""

from __future__ import annotations

import os


def launched() -> tuple[int, int]:
    """(number of this process, number of all) as torchrun started them; (0, 1) without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
