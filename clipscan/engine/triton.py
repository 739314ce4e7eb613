"""The Triton back-end's door: may it serve, and with which devices. Everything else is in kernels/triton, and
not imported before it is needed: torch and triton take seconds, and may be missing.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from clipscan.engine.limits import Limits
from clipscan.engine.protocol import DeviceEngine
from clipscan.errors import BackendError

LIMITS = Limits(max_k=1 << 16, max_d=1 << 14)
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # CUDA, ROCm, and either under Windows' Linux
ON = ("1", "true", "yes", "on", "y")


def available() -> str | None:
    """Why this back-end cannot serve, None where it can."""
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        return f"needs {' and '.join(missing)}: pip install {' '.join(missing)}"
    if interpreted():
        return None
    if os.name == "posix" and not any(map(os.path.exists, GPU_FILES)):  # spares the import of torch
        return "needs a GPU, and this machine has none; TRITON_INTERPRET=1 runs it on the CPU, for tests"
    return None if _kernels("devices").usable() else (
        "needs a GPU that torch can use: CUDA of compute capability 8.0 (A100) or later, or ROCm"
    )  # fmt: skip


def interpreted() -> bool:
    """Whether kernels run on the CPU, thousands of times slower."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ON


def engines(devices: Sequence[str] | None = None) -> list[DeviceEngine]:
    """One for each device by name ("cuda:0"); without names for all. Raises BackendError where it cannot
    serve.
    """
    engine = _kernels("engine").TritonEngine
    return [engine(name) for name in _names(devices)]


def identity(devices: Sequence[str] | None = None) -> list[str]:
    """What a verdict on this back-end depends on: its kernels, their compiler, then each device."""
    names, kernels = _names(devices), _kernels("devices")
    build = hashlib.sha256()
    for path in sorted(Path(kernels.__file__ or "").parent.glob("*.py")):
        build.update(path.read_bytes())
    try:
        return [f"build {build.hexdigest()}", *kernels.versions(), *map(kernels.identity, names)]
    except RuntimeError as error:  # torch's, of a driver that fails
        raise BackendError(f"back-end 'triton': {error}") from error


def _names(devices: Sequence[str] | None) -> Sequence[str]:
    if reason := available():
        raise BackendError(f"back-end 'triton' {reason}")
    usable = ["cpu"] if interpreted() else _kernels("devices").usable()
    if unknown := [name for name in devices or () if name not in usable]:
        raise BackendError(
            f"back-end 'triton' has no device {', '.join(unknown)}; it has {', '.join(usable)}"
        )
    return devices or usable


def _kernels(name: str) -> ModuleType:
    """A module of kernels/triton: inside the package once installed, beside it in a checkout."""
    package = "clipscan.kernels"
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(Path(__file__).parents[2] / "kernels")]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{package}.triton.{name}")
