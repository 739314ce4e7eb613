"""Kernels compiled and launched by a running program: NVRTC and the CUDA driver through ctypes.

The compiler needs no GPU. Its library comes with the CUDA toolkit, with torch for CUDA, or by itself:
pip install nvidia-cuda-nvrtc.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parents[2] / "kernels" / "cuda"
REGISTERS, LOCAL_BYTES, SHARED_BYTES = (
    4,
    3,
    8,
)  # CUfunction_attribute: NUM_REGS, LOCAL_SIZE_BYTES, MAX_DYNAMIC_...


class Failed(Exception):
    """What the compiler or the driver said."""


@cache
def library() -> ctypes.CDLL:
    """NVRTC. Raises ImportError where there is none."""
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    folders = [path for root in sys.path for path in sorted(Path(root or ".").glob("nvidia/*/lib"))]
    for folder in [*folders, toolkit / "lib64", toolkit / "targets" / "x86_64-linux" / "lib"]:
        for file in sorted(folder.glob("libnvrtc.so.*")):
            if ".alt." not in file.name:
                for part in sorted(
                    folder.glob("libnvrtc-builtins.so.*")
                ):  # found by name, and only if it is here
                    ctypes.CDLL(str(part), mode=ctypes.RTLD_GLOBAL)
                return ctypes.CDLL(str(file))
    raise ImportError(
        "needs NVRTC: pip install nvidia-cuda-nvrtc, or the CUDA toolkit (CUDA_HOME says where)"
    )


def compiled(source: str, names: Sequence[str], architecture: str) -> tuple[bytes, dict[str, str]]:
    """(machine code for "sm_90a", PTX for "compute_80"; name expression -> symbol). Headers: kernels/cuda."""
    nvrtc, program = library(), c_void_p()
    _ok(nvrtc, nvrtc.nvrtcCreateProgram(byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        for name in names:
            _ok(nvrtc, nvrtc.nvrtcAddNameExpression(program, name.encode()))
        # -default-device: the launching functions that kernels.h declares belong to nobody here.
        options = [f"-arch={architecture}", "-std=c++20", "-default-device", f"-I{KERNELS}"]
        given = (c_char_p * len(options))(*(option.encode() for option in options))
        if nvrtc.nvrtcCompileProgram(program, len(options), given):
            raise Failed(_bytes(nvrtc, program, "ProgramLog").rstrip(b"\0").decode())
        image = _bytes(nvrtc, program, "CUBIN" if architecture.startswith("sm_") else "PTX")
        symbols = {}
        for name in names:
            symbol = c_char_p()
            _ok(nvrtc, nvrtc.nvrtcGetLoweredName(program, name.encode(), byref(symbol)))
            symbols[name] = (symbol.value or b"").decode()
        return image, symbols
    finally:
        nvrtc.nvrtcDestroyProgram(byref(program))


def _ok(nvrtc: Any, code: int) -> None:
    if code:
        nvrtc.nvrtcGetErrorString.restype = c_char_p
        raise Failed(nvrtc.nvrtcGetErrorString(code).decode())


def _bytes(nvrtc: Any, program: c_void_p, what: str) -> bytes:
    size = c_size_t()
    _ok(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, byref(size)))
    out = ctypes.create_string_buffer(size.value)
    _ok(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, out))
    return out.raw


class Kernel:
    """A function of a compiled image, in the context that this thread uses (that of cudaSetDevice)."""

    def __init__(self, image: bytes, symbol: str, shared: int, driver: str = "libcuda.so.1"):
        self._driver, self._module, self._function = ctypes.CDLL(driver), c_void_p(), c_void_p()
        self._image = image  # the driver may read it later
        self._call("cuModuleLoadData", byref(self._module), image)
        self._call("cuModuleGetFunction", byref(self._function), self._module, symbol.encode())
        self._call("cuFuncSetAttribute", self._function, c_int(SHARED_BYTES), c_int(shared))
        self._shared = shared

    def attribute(self, which: int) -> int:
        value = c_int()
        self._call("cuFuncGetAttribute", byref(value), c_int(which), self._function)
        return value.value

    def milliseconds(self, blocks: int, threads: int, argument: bytes, stream: int) -> float:
        """What one launch took; its one argument is a struct, by value."""
        held = ctypes.create_string_buffer(argument, len(argument))
        arguments = (c_void_p * 1)(ctypes.cast(held, c_void_p))
        begin, end, took = c_void_p(), c_void_p(), c_float()
        for event in (begin, end):
            self._call("cuEventCreate", byref(event), c_uint(0))
        self._call("cuEventRecord", begin, c_void_p(stream))
        shape = [c_uint(size) for size in (blocks, 1, 1, threads, 1, 1, self._shared)]
        self._call("cuLaunchKernel", self._function, *shape, c_void_p(stream), arguments, None)
        self._call("cuEventRecord", end, c_void_p(stream))
        self._call("cuEventSynchronize", end)
        self._call("cuEventElapsedTime", byref(took), begin, end)
        for event in (begin, end):
            self._call("cuEventDestroy_v2", event)
        return took.value

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._driver, name)(*arguments):
            said = c_char_p()
            self._driver.cuGetErrorString(c_int(code), byref(said))
            raise Failed(f"{name}: {(said.value or b'unknown error').decode()} ({code})")
