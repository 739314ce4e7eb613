"""Arrays of embeddings from .npy, .npz and parquet columns. Never unpickles; checks sizes before it reads."""

from __future__ import annotations

import math
import zipfile
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipscan.data.parquet import PARQUET_ERRORS, group_starts, open_parquet_file
from clipscan.errors import DataError

MAX_NPZ_BYTES = 16 << 30  # one unpacked array of an .npz; a zip bomb declares more


def load_npy(path: str) -> np.ndarray:
    """A .npy file as a read-only memory map, [n, d] floating; DataError otherwise."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an .npz under the name of an .npy; rename it")
    return checked(array, path)


def load_npz(path: str, name: str) -> np.ndarray:
    """One array of an .npz, in memory, [n, d] floating; DataError otherwise."""
    return checked(load_npz_array(path, name), f"{path}: array {name!r}")


def load_npz_array(path: str, name: str) -> np.ndarray:
    """Any array of an .npz, in memory; DataError if it is not there, is of objects, or is a zip bomb."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            held = archive.getinfo(f"{name}.npy").file_size - stream.tell()
            if _declared_bytes(stream) > held:
                raise DataError(f"cannot read {path}: array {name!r} declares more than it holds")
            if held > MAX_NPZ_BYTES:
                raise DataError(f"{path}: array {name!r} unpacks to {held:,} bytes; save it as .npy instead")
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays[name])
    except KeyError:
        raise DataError(f"{path} has no array {name!r}; it has {npz_names(path)}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _declared_bytes(stream: IO[bytes]) -> int:
    """Bytes of data that a .npy header announces: numpy allocates that much before it reads."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return math.prod(shape) * dtype.itemsize


def npz_names(path: str) -> list[str]:
    """Names of the arrays in an .npz; DataError if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [entry.removesuffix(".npy") for entry in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def load_column(path: str, column: str, span: tuple[int, int] | None) -> np.ndarray:
    """A list column of a parquet file, rows [span), as [n, d] floating; DataError names the odd row."""
    try:
        with open_parquet_file(path) as table:
            starts = group_starts(table)
            first, stop = span or (0, starts[-1])
            wanted = [g for g in range(table.num_row_groups) if first <= starts[g] < stop]
            lists = table.read_row_groups(wanted, columns=[column]).column(column)
    except PARQUET_ERRORS as error:
        raise DataError(f"cannot read {path}: {error}") from error
    lengths = _lengths(lists)
    odd = np.flatnonzero(lengths != (lengths[0] if len(lengths) else 0))
    if len(lengths) and (lengths[0] < 1 or len(odd)):
        row = int(odd[0]) if len(odd) else 0
        raise DataError(f"{path}: column {column!r}, row {first + row} has {max(lengths[row], 0)} numbers, "
                        f"row {first} has {max(lengths[0], 0)}")  # fmt: skip
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in lists.chunks]
    values = np.concatenate(flat) if flat else np.zeros(0, np.float32)
    return checked(values.reshape(len(lengths), -1 if len(lengths) else 0), f"{path}: column {column!r}")


def vector_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold one list of floating point numbers a row."""
    return [field.name for field in schema if _is_vector(field.type)]


def checked(array: np.ndarray, where: str) -> np.ndarray:
    """The array if it is [n, d] floating; DataError otherwise."""
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DataError(
            f"{where} is {array.dtype} {array.shape}; wanted float16/32/64 of shape [rows, width]"
        )
    return array


def _is_vector(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(listed and pa.types.is_floating(kind.value_type))


def _lengths(lists: pa.ChunkedArray) -> np.ndarray:
    """Numbers in every row [n] int64, -1 for a null row (which flatten() would drop without a word)."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), -1).to_numpy(), dtype=np.int64)
