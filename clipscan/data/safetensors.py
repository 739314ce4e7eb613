"""Arrays of a .safetensors file, memory-mapped: eight bytes that give the length of a JSON header, the
header, the numbers. Read here, without the package of that name, so that embeddings need no torch.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipscan.data.guard import reading
from clipscan.errors import DataError

MAX_HEADER = 100 << 20  # bytes, as the package allows
TYPES = {"F16": "<f2", "BF16": "V2", "F32": "<f4", "F64": "<f8"}
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8} | {
    name: int(kind[-1]) for name, kind in TYPES.items()
}
CHUNK_ROWS = 65_536


class Tensor(NamedTuple):
    """An entry of the header; `at` counts from the begin of the file."""

    kind: str
    shape: tuple[int, ...]
    at: int


def safetensors_header(path: str) -> dict[str, Tensor]:
    """Name -> entry of every array of a type listed above; DataError where the file is none."""
    size = os.path.getsize(path) if os.path.exists(path) else 0
    with reading(path), open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise DataError(f"{path} is no .safetensors: its header would be {length:,} bytes of {size:,}")
        told = json.loads(stream.read(length))
        found = {}
        for name, entry in told.items():
            if name == "__metadata__" or entry["dtype"] not in SIZES:
                continue
            shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
            whole = all(isinstance(one, int) and one >= 0 for one in (*shape, begin, end))
            if (
                not whole
                or math.prod(shape) * SIZES[entry["dtype"]] != end - begin
                or 8 + length + end > size
            ):
                raise DataError(f"cannot read {path}: array {name!r} is not where its header says")
            found[name] = Tensor(entry["dtype"], shape, 8 + length + begin)
    return found


def load_safetensors(path: str, name: str) -> np.ndarray:
    """An array of floats of the file as a read-only memory map, bfloat16 as V2; DataError if it is not there
    or of another type."""
    held = safetensors_header(path)
    if name not in held:
        raise DataError(f"{path} has no array {name!r}; it has {list(held)}")
    kind, shape, at = held[name]
    if kind not in TYPES:
        raise DataError(f"{path}: array {name!r} is {kind}; wanted {', '.join(TYPES)}")
    if not math.prod(shape):
        return np.empty(shape, TYPES[kind])
    with reading(path):
        return np.memmap(path, TYPES[kind], "r", at, shape)


def filter_safetensors(path: str, to: Path, rows: np.ndarray) -> None:
    """All arrays of the file that have one entry per row, without the others' rows; the rest as it is."""
    held = safetensors_header(path)
    total = max((one.shape[0] for one in held.values() if one.shape), default=0)
    if len(rows) and rows[-1] >= total:
        raise DataError(f"{path} has {total:,} rows, its metadata has more; they do not belong together")
    header: dict[str, object] = {}
    parts, end = [], 0
    for name, one in held.items():
        width = SIZES[one.kind] * math.prod(one.shape[1:])  # bytes of a row
        stays = rows if one.shape and one.shape[0] == total else np.arange(one.shape[0] if one.shape else 1)
        shape = (len(stays), *one.shape[1:]) if one.shape else ()
        begin, end = end, end + len(stays) * width
        header[name] = {"dtype": one.kind, "shape": shape, "data_offsets": [begin, end]}
        parts.append((one.at, width, stays))
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)  # numbers begin where eight bytes do
    with open(to, "xb") as out:
        out.write(len(told).to_bytes(8, "little") + told)
        for at, width, stays in parts:
            if width and len(stays):
                held_rows = np.memmap(path, np.uint8, "r", at, (int(stays[-1]) + 1, width))
                for start in range(0, len(stays), CHUNK_ROWS):
                    out.write(held_rows[stays[start : start + CHUNK_ROWS]].tobytes())
