"""Hardware that the CPU stands in for: builds tests/sim with the CUDA engine's own sources, and tests/amx."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pybind11

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "sim"


def build() -> ModuleType:
    """clipscan's _cuda with tests/sim in place of the hardware; built where anything changed."""
    make("_cuda_sim")
    [library] = BUILD.glob("_cuda_sim*.so")
    spec = importlib.util.spec_from_file_location("_cuda_sim", library)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(target: str) -> None:
    """Builds a target of CLIPSCAN_SIM in BUILD."""
    options = [
        "-DCLIPSCAN_CUDA=OFF",
        "-DCLIPSCAN_SIM=ON",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    # Beside this Python, where the dev extra puts it, even if its environment is not the active one.
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    cmake = shutil.which("cmake", path=folders)
    assert cmake, "needs cmake: pip install 'clipscan[dev]'"
    _run(cmake, "-S", str(ROOT), "-B", str(BUILD), *options)
    _run(cmake, "--build", str(BUILD), "--target", target, "--parallel", "2")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
