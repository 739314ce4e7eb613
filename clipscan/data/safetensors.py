"""Arrays of a .safetensors file, memory-mapped: eight bytes that give the length of a JSON header, the
header, the numbers. Read here, without the package of that name, so that embeddings need no torch.
"""

from __future__ import annotations

import json
import math
import os
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from clipscan.data.guard import reading
from clipscan.errors import DataError

MAX_HEADER = 16 << 20  # bytes
MAX_DIMENSIONS = 8
MAX_EMPTY = 1 << 31  # numbers that a row of an array without rows may declare
METADATA = "__metadata__"  # the entry of the header that is no array
TYPES = {"F16": "<f2", "BF16": "V2", "F32": "<f4", "F64": "<f8"}
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8} | {
    name: int(kind[-1]) for name, kind in TYPES.items()
}


class Tensor(NamedTuple):
    """An entry of the header, of any type; `at` counts from the begin of the file."""

    kind: str
    shape: tuple[int, ...]
    at: int
    size: int  # bytes


class Header(NamedTuple):
    """Name -> array, in the order in which their numbers lie, and what `__metadata__` holds."""

    arrays: dict[str, Tensor]
    metadata: dict[str, Any] | None


def safetensors_header(path: str) -> Header:
    """The header, checked: the arrays fill the file without overlap or hole, and each of a type listed above
    is as large as its shape says. DataError where the file is none."""
    with reading(path):
        stat = os.stat(path)
        return _header(path, stat.st_size, (stat.st_ino, stat.st_mtime_ns))


@lru_cache(maxsize=1)  # pictures and captions of a shard are read one after the other
def _header(path: str, size: int, stamp: tuple[int, int]) -> Header:
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise DataError(
                f"{path} is no .safetensors: its header would be {length:,} bytes of {size:,}; at most "
                f"{MAX_HEADER >> 20} MiB are read"
            )
        told = json.loads(stream.read(length), object_pairs_hook=_once)
    metadata = told.pop(METADATA, None)
    if metadata is not None and not isinstance(metadata, dict):
        raise DataError(f"cannot read {path}: {METADATA} is no object")
    found = {name: _tensor(path, name, entry, 8 + length) for name, entry in told.items()}
    arrays = dict(sorted(found.items(), key=lambda item: (item[1].at, item[1].size)))
    at = 8 + length
    for name, one in arrays.items():
        if one.at != at:
            fault = "overlaps another" if one.at < at else "leaves a hole before it"
            raise DataError(f"cannot read {path}: array {name!r} {fault}; write the file anew")
        at += one.size
    if at != size:
        raise DataError(f"cannot read {path}: its arrays end at byte {at:,} of {size:,}; write the file anew")
    return Header(arrays, metadata)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError where two entries have one name, of which readers take different ones."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _tensor(path: str, name: str, entry: Any, start: int) -> Tensor:
    kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    fits = (
        len(shape) <= MAX_DIMENSIONS
        and all(type(one) is int and 0 <= one < 2**63 for one in (*shape, begin, end))
        and begin <= end
        and (all(shape) or math.prod(one or 1 for one in shape) <= MAX_EMPTY)
    )
    if not fits or (kind in SIZES and math.prod(shape) * SIZES[kind] != end - begin):
        raise DataError(f"cannot read {path}: array {name!r} is not where its header says")
    return Tensor(str(kind), shape, start + begin, end - begin)


def load_safetensors(path: str, name: str) -> np.ndarray:
    """An array of floats of the file as a read-only memory map, bfloat16 as V2; DataError if it is not there
    or of another type."""
    held = safetensors_header(path).arrays
    if name not in held:
        raise DataError(f"{path} has no array {name!r}; it has {list(held)}")
    kind, shape, at, size = held[name]
    if kind not in TYPES:
        raise DataError(f"{path}: array {name!r} is {kind}; wanted {', '.join(TYPES)}")
    with reading(path):
        return np.memmap(path, TYPES[kind], "r", at, shape) if size else np.empty(shape, TYPES[kind])
