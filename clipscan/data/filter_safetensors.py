"""A .safetensors file without some rows: arrays of one entry per row are cut, the rest is copied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clipscan.data.safetensors import METADATA, Tensor, safetensors_header
from clipscan.errors import DataError

CHUNK_BYTES = 64 << 20


def filter_safetensors(path: str, to: Path, rows: np.ndarray, total: int) -> None:
    """The file with `rows`, ascending, of every array of `total` rows, whatever its type; other arrays and
    `__metadata__` as they are. DataError where an array of `total` rows cannot be cut between bytes."""
    held, metadata = safetensors_header(path)
    header: dict[str, object] = {} if metadata is None else {METADATA: metadata}
    parts, end = [], 0
    for name, one in held.items():
        if total and one.shape and one.shape[0] == total:
            if one.size % total:
                raise DataError(
                    f"{path}: array {name!r} of {one.kind} has rows that end within a byte; "
                    "it cannot be cut, store it in another file"
                )
            width, stays, shape = one.size // total, rows, (len(rows), *one.shape[1:])
        else:
            width, stays, shape = 1, None, one.shape
        begin, end = end, end + (one.size if stays is None else len(rows) * width)
        header[name] = {"dtype": one.kind, "shape": shape, "data_offsets": [begin, end]}
        parts.append((one, width, stays))
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)  # numbers begin where eight bytes do
    with open(to, "xb") as out:
        out.write(len(told).to_bytes(8, "little") + told)
        for one, width, stays in parts:
            for block in _blocks(path, one, width, stays):
                out.write(block.tobytes())


def _blocks(path: str, one: Tensor, width: int, stays: np.ndarray | None) -> Iterator[np.ndarray]:
    """The bytes of an array that stay, [rows, width] uint8 at a time; all of them without `stays`."""
    if not one.size:
        return
    held = np.memmap(path, np.uint8, "r", one.at, (one.size // width, width))
    count, step = len(held) if stays is None else len(stays), max(1, CHUNK_BYTES // width)
    for start in range(0, count, step):
        chunk = slice(start, start + step)
        yield held[chunk] if stays is None else held[stays[chunk]]
