"""What is here, what is not, and why: `clipscan doctor`.

Probes that load compiled code (our core, torch, the back-ends, Pillow) run in processes of their own, all at
once: one that crashes or hangs costs its section, which then says so, and nothing else.

A section is a dict of names and what was found: text, numbers, lists; one that failed is {"failed": reason}.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata, util
from typing import Any

import clipscan

Found = dict[str, Any]

SECONDS = 20.0  # for all probes together; they take about three, most of it the import of torch
END_SECONDS = 5.0  # for a killed probe to be gone
READY = "ready"
GPU_FACTS = {  # nvidia-smi's column -> name
    "name": "name",
    "memory.total": "memory",
    "compute_cap": "compute_capability",
    "driver_version": "driver",
}
DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/dxg")  # Linux, and Windows' Linux
OPTIONAL = {  # module -> (what brings it, the distributions that may hold it)
    "open_clip": ("'clipscan[embed]'", "open_clip_torch"),
    "torchvision": ("'clipscan[embed]'", "torchvision"),
    "safetensors": ("'clipscan[embed]'", "safetensors"),
    "triton": ("'clipscan[gpu]'", "triton", "pytorch-triton", "pytorch-triton-rocm"),
    "cupy": ("cupy-cuda12x", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy"),
    "jax": ("jax", "jax"),
    "s3fs": ("'clipscan[s3]'", "s3fs"),
    "umap": ("'clipscan[map]'", "umap-learn"),
    "sklearn": ("'clipscan[sklearn]'", "scikit-learn"),
    "pyod": ("'clipscan[pyod]'", "pyod"),
    "ml_dtypes": ("ml_dtypes", "ml_dtypes"),
}


def examine(seconds: float = SECONDS) -> dict[str, Found]:
    """Every section, in the order of PROBES. Never raises for what a probe does."""
    deadline = time.monotonic() + seconds
    started = {name: _start(name) for name in APART}
    here = {name: _told(probe) for name, probe in PROBES.items() if name not in APART}
    return {name: here[name] if name in here else _heard(started[name], deadline) for name in PROBES}


def page(sections: dict[str, Found]) -> str:
    """The sections as text, a line for each thing."""
    lines = []
    for title, found in sections.items():
        width = max(map(len, found), default=0)
        lines += [title, *(f"  {name:<{width}}  {_words(value)}" for name, value in found.items())]
    return "\n".join(lines)


def system() -> Found:
    return {
        "clipscan": clipscan.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
    }


def cpu() -> Found:
    from clipscan import _core
    from clipscan.bench.rows import processor
    from clipscan.engine import cores

    usable = _core.instruction_sets()  # best first
    return {
        "model": processor(),
        "usable cores": cores(),
        "instruction sets": usable,
        "kernel in use": usable[0],
        "AMX": f"no: {reason}" if (reason := _core.why_not_amx()) else READY,
    }


def torch_and_cuda() -> Found:
    """torch's version, whether it sees a GPU or why not, and the GPUs as it sees them."""
    if util.find_spec("torch") is None:
        return {"missing": "pip install 'clipscan[embed]'"}
    import torch

    found: Found = {"version": torch.__version__}
    built = torch.version.cuda or torch.version.hip
    if not built:
        return found | {"CUDA": "no: this build of torch is for CPUs only"}
    if not torch.cuda.is_available():
        return found | {"CUDA": f"no: {_why_no_cuda(torch.cuda.init)}"}
    count = torch.cuda.device_count()
    found["CUDA"] = f"{built}, {count} device{'s' * (count != 1)}"
    for number in range(count):
        facts = torch.cuda.get_device_properties(number)
        found[f"cuda:{number}"] = {
            "name": facts.name,
            "memory": f"{facts.total_memory >> 20} MiB",
            "compute_capability": f"{facts.major}.{facts.minor}",
        }
    return found


def devices() -> Found:
    """NVIDIA's own list of its devices, by number."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FACTS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS / 2)
    except FileNotFoundError:
        if any(map(os.path.exists, DRIVER_FILES)):
            return {"none": "an NVIDIA driver is loaded, but nvidia-smi is not here to list its devices"}
        return {"none": "no NVIDIA driver here"}
    if done.returncode or not done.stdout.strip():
        return {"none": f"nvidia-smi: {_last_line(done.stdout + done.stderr) or 'lists none'}"}
    rows = [line.split(", ") for line in done.stdout.strip().splitlines()]
    return {str(number): dict(zip(GPU_FACTS.values(), row, strict=True)) for number, row in enumerate(rows)}


def backends() -> Found:
    """Which can serve, why others cannot; and what is known of trials on the GPUs here."""
    from clipscan import engine

    found: Found = {name: f"no: {reason}" if reason else READY for name, reason in engine.reasons().items()}
    return found | {f"{name}'s trial": known for name, known in engine.trials().items()}


def packages() -> Found:
    return {module: _version(module, *rest) for module, (_, *rest) in OPTIONAL.items()}


def pictures() -> Found:
    """What decodes: Pillow, and the libraries inside it; and what scales, to the same pixels."""
    import PIL
    from PIL import Image, features

    from clipscan import _core

    libraries = {
        name: features.version(name) or "yes" if features.check(name) else "no"
        for name in ("libjpeg_turbo", "webp", "avif", "libtiff")
    }
    core = f"clipscan ({_core.resample_instruction_sets()[0]})"
    slow = "Pillow, half as fast; from 11.2.1 on clipscan can"
    scaled = core if hasattr(Image.Image, "__arrow_c_array__") else slow
    return {"Pillow": PIL.__version__, **libraries, "scaled by": scaled}


PROBES: dict[str, Callable[[], Found]] = {
    "system": system,
    "cpu": cpu,
    "torch": torch_and_cuda,
    "devices": devices,
    "back-ends": backends,
    "packages": packages,
    "pictures": pictures,
}
APART = ("cpu", "torch", "back-ends", "pictures")  # in processes of their own


def _version(module: str, *distributions: str) -> str:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if util.find_spec(module) is not None:
        return "there, of unknown version"
    return f"missing: pip install {OPTIONAL[module][0]}"


def _why_no_cuda(init: Callable[[], None]) -> str:
    try:
        init()
    except Exception as error:
        return " ".join(str(error).split())[:300]
    return "torch finds no device"


def _told(probe: Callable[[], Found]) -> Found:
    try:
        return probe()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _start(name: str) -> subprocess.Popen[str]:
    # -P: the folder we stand in stays off the import path.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "clipscan.doctor", name],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


def _heard(process: subprocess.Popen[str], deadline: float) -> Found:
    """The section that a process tells on its last line, or how it ended instead."""
    try:
        said, chat = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that the driver does not let go is left behind
            process.communicate(timeout=END_SECONDS)
        return {"failed": "gave no answer in time; a slow disk, or a driver that hangs"}
    if process.returncode == 0 and said:
        try:
            return dict(json.loads(said.splitlines()[-1]))
        except ValueError:
            return {"failed": f"said something else than JSON: {_last_line(said)}"}
    code = process.returncode
    end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return {"failed": f"{end}: {_last_line(chat) or 'without a word'}"}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_words(one)}" for name, one in value.items())
    return " ".join(str(value).split())


if __name__ == "__main__":
    print("\n" + json.dumps(_told(PROBES[sys.argv[1]])))
