"""GPUs that these kernels run on."""

from __future__ import annotations

import torch

OLDEST = (8, 0)  # compute capability: int8 products on matrix units, and copies that run on their own


def usable() -> list[str]:
    """Names of devices, "cuda:0" and so on; torch calls those of AMD the same."""
    if not torch.cuda.is_available():
        return []
    numbers = range(torch.cuda.device_count())
    return [
        f"cuda:{i}" for i in numbers if torch.version.hip or torch.cuda.get_device_capability(i) >= OLDEST
    ]
