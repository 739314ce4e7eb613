"""GPUs that these kernels run on."""

from __future__ import annotations

import torch
import triton

OLDEST = (8, 0)  # compute capability: int8 products on matrix units, and copies that run on their own


def usable() -> list[str]:
    """Names of devices, "cuda:0" and so on; torch calls those of AMD the same."""
    if not torch.cuda.is_available():
        return []
    numbers = range(torch.cuda.device_count())
    return [
        f"cuda:{i}" for i in numbers if torch.version.hip or torch.cuda.get_device_capability(i) >= OLDEST
    ]


def versions() -> list[str]:
    return [f"torch {torch.__version__}", f"triton {triton.__version__}"]


def identity(name: str) -> str:
    """A device as its driver names it."""
    if name == "cpu":
        return "interpreter"
    facts = torch.cuda.get_device_properties(name)
    return f"{facts.name} {getattr(facts, 'uuid', '')}"  # torch 2.4 and later know the latter
