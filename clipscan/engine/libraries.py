"""Other libraries' arrays: which library and device one is of, and its like for what is handed back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from clipscan.engine.neighbors import Array

DLPACK_CUDA = 2  # kDLCUDA of the standard


def like(x: Any) -> Callable[[Any], Any]:
    """A function that turns a NumPy array, or a back-end's array on a device, into an array of the library
    (and device) of x. Arrays that lie on x's device already are taken over, not copied. Beside torch, CuPy
    and JAX it serves whatever follows the array API standard (__array_namespace__); all else gets NumPy's."""
    library = library_of(x)
    if library == "torch":
        torch = sys.modules["torch"]
        return lambda a: (torch.from_numpy(a) if isinstance(a, np.ndarray) else torch.from_dlpack(a)).to(
            x.device
        )
    if library == "cupy":
        cupy = sys.modules["cupy"]
        return lambda a: cupy.asarray(a) if isinstance(a, np.ndarray) else cupy.from_dlpack(a)
    if library in ("jax", "jaxlib"):
        numpy = sys.modules["jax.numpy"]
        return lambda a: numpy.asarray(a) if isinstance(a, np.ndarray) else numpy.from_dlpack(a)
    if hasattr(x, "__array_namespace__") and library != "numpy":
        namespace = x.__array_namespace__()
        return lambda a: namespace.asarray(numpy_of(a))
    return numpy_of


def numpy_of(a: Any) -> Array:
    """A back-end's array, wherever it lies, as NumPy's."""
    if isinstance(a, np.ndarray):
        return a
    if library_of(a) == "torch":
        return a.cpu().numpy()  # type: ignore[no-any-return]
    return a.numpy() if hasattr(a, "numpy") else np.asarray(a)


def device_of(x: Any) -> str:
    """ "cuda:0" for an array on a GPU that has __dlpack__, "cpu" for all else."""
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack_device__"):
        return "cpu"
    kind, number = x.__dlpack_device__()
    return f"cuda:{int(number)}" if int(kind) == DLPACK_CUDA else "cpu"


def library_of(x: Any) -> str:
    """The first part of the name of the module that an array's class is from."""
    return type(x).__module__.partition(".")[0]


def type_of(x: Any) -> str:
    """The name of its type, the same in all libraries."""
    return getattr(x.dtype, "name", str(x.dtype).removeprefix("torch."))
