"""Arrays of embeddings from .npy and .npz. Never unpickles; checks sizes before it reads."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from clipscan.data.guard import check_unpacked, reading
from clipscan.errors import DataError

BFLOAT16 = np.dtype("V2")  # what NumPy calls it in a file, and without ml_dtypes


def load_npy(path: str) -> np.ndarray:
    """A .npy file as a read-only memory map, [n, d] floating; DataError otherwise."""
    with reading(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an .npz under the name of an .npy; rename it")
    return checked(array, path)


def map_npy(path: str) -> np.ndarray:
    """The numbers of a .npy file that load_npy takes, of the type that its header says."""
    load_npy(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def load_npz(path: str, name: str) -> np.ndarray:
    """One array of an .npz, in memory, [n, d] floating; DataError otherwise."""
    return checked(load_npz_array(path, name), f"{path}: array {name!r}")


def load_npz_array(path: str, name: str) -> np.ndarray:
    """Any array of an .npz, in memory; DataError if it is not there, is of objects, or is a zip bomb."""
    with _entry(path, name) as (stream, held):
        shape, dtype = _header(stream)
        if math.prod(shape) * dtype.itemsize > held - stream.tell():  # NumPy allocates before it reads
            raise DataError(f"cannot read {path}: array {name!r} declares more than it holds")
    with _entry(path, name) as (stream, _):
        return np.lib.format.read_array(stream, allow_pickle=False)


def npz_shape(path: str, name: str) -> tuple[int, ...]:
    """The shape that an array of an .npz declares; its numbers are not read."""
    with _entry(path, name) as (stream, _):
        return _header(stream)[0]


def npz_names(path: str) -> list[str]:
    """Names of the arrays in an .npz; DataError if it is none."""
    with reading(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def checked(array: np.ndarray, where: str) -> np.ndarray:
    """The array if it is [n, d] floating, d at least 1; DataError otherwise. bfloat16, which NumPy writes as
    nameless two bytes, stays where it is if ml_dtypes is installed, and is made float32 if not."""
    if array.dtype == BFLOAT16 and array.ndim == 2 and array.shape[1]:
        return _bfloat16(array)
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8 or not array.shape[1]:
        raise DataError(
            f"{where} is {array.dtype} {array.shape}; wanted float16/32/64 or bfloat16 of shape [rows, width]"
        )
    return array


def _bfloat16(array: np.ndarray) -> np.ndarray:
    try:
        import ml_dtypes
    except ImportError:
        return (array.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return array.view(ml_dtypes.bfloat16)


@contextmanager
def _entry(path: str, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """An array of an .npz as a stream, and the bytes that it unpacks to."""
    with reading(path), zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            raise DataError(f"{path} has no array {name!r}; it has {npz_names(path)}")
        about = archive.getinfo(f"{name}.npy")
        packed = min(about.compress_size, os.path.getsize(path))
        check_unpacked(f"{path}: array {name!r}", about.file_size, packed)
        with archive.open(about) as stream:
            yield stream, about.file_size


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that a .npy header announces."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype
