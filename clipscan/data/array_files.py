"""Files of several named arrays, .npz and .safetensors, and .npy of one, by what their names end in."""

from __future__ import annotations

import numpy as np

from clipscan.data.arrays import checked, load_npy, load_npz, npz_names, npz_shape
from clipscan.data.inventory import extension
from clipscan.data.safetensors import load_safetensors, safetensors_header
from clipscan.errors import DataError

NAMED = ("npz", "safetensors")  # files whose arrays have names
ARRAYS = ("npy", *NAMED)


def array_names(path: str) -> list[str]:
    """The arrays of an .npz or a .safetensors; DataError if it is none."""
    return npz_names(path) if extension(path) == "npz" else list(safetensors_header(path).arrays)


def array_shape(path: str, name: str) -> tuple[int, ...]:
    """The shape that a file declares of its array; DataError where it cannot be read."""
    kind = extension(path)
    if kind == "npz":
        return npz_shape(path, name)
    if kind == "npy":
        return load_npy(path).shape
    held = safetensors_header(path).arrays
    if name not in held:
        raise DataError(f"{path} has no array {name!r}; it has {list(held)}")
    return held[name].shape


def load_array(path: str, name: str) -> np.ndarray:
    """An array [n, d] floating, memory-mapped where the file allows it; DataError otherwise."""
    kind = extension(path)
    if kind == "npz":
        return load_npz(path, name)
    if kind == "npy":
        return load_npy(path)
    return checked(load_safetensors(path, name), f"{path}: array {name!r}")
