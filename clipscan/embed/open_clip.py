"""The one place where open_clip comes in, with our small models registered beside its own.

torchvision: open_clip imports it for transforms and one frozen batch norm, all plain Python. The
wheels of torchvision on the Python index carry operators compiled against CUDA libraries; beside
torch's CPU build these cannot be loaded, and `import torchvision` fails while it describes them to
the compiler (`operator torchvision::nms does not exist`). Where, and only where, that happens, the
describing module is replaced by an empty one. Nothing here uses such an operator, and a call of
one still raises torch's own error. A matching pair (docs/data.md) makes this file do nothing.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parent / "configs"
INSTALL = "embedding and training need PyTorch and open_clip: pip install 'clipscan[embed]'"


@cache
def import_open_clip() -> ModuleType:
    """The open_clip package, our small models included; imported on the first call.

    Raises ImportError naming the extra when torch, torchvision or open_clip are missing.
    """
    try:
        importlib.import_module("torch")
        _import_torchvision()
        open_clip = importlib.import_module("open_clip")
    except ModuleNotFoundError as missing:
        raise ImportError(f"{INSTALL} (no module named {missing.name!r})") from missing
    importlib.import_module("clipscan.embed.conv_tower")  # registers the convolution towers with timm
    open_clip.add_model_config(CONFIGS)
    return open_clip


def _import_torchvision() -> None:
    """Import torchvision; without its compiled operators if they cannot be loaded."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        log.info("torchvision's compiled operators do not load here (%s); going on without them", error)
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
        importlib.import_module("torchvision")


@contextmanager
def _hushed() -> Iterator[None]:
    """open_clip warns on the root logger that a model is random; here it is meant to be, or already refused.

    The handler keeps `logging.warning` from configuring the root logger behind the user's back.
    """
    root, handler = logging.getLogger(), logging.NullHandler()

    def other(record: logging.LogRecord) -> bool:
        return "initialized randomly" not in record.getMessage()

    root.addHandler(handler)
    root.addFilter(other)
    try:
        yield
    finally:
        root.removeFilter(other)
        root.removeHandler(handler)


def quietly(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with _hushed():
        return function(*arguments, **options)
