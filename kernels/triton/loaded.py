"""Rows on a device: their codes; the originals there too where they fit, else left where they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from clipscan.engine import reference
from clipscan.engine.arrays import Array, Rows
from clipscan.engine.codebook import Codebook

from . import copies
from .encode import encode
from .measure import Originals
from .sizes import Sizes
from .state import Codes, Units

BLOCK_BYTES = 64 << 20  # float32 rows encoded at once
PADDING = 256  # rows of zeros behind the last: no tile is larger
CODE_UNIT = 64  # codes of a row are padded to a multiple
STORED = {"float16": torch.float16, "bfloat16": torch.bfloat16}  # all else is kept as float32


@dataclass
class Loaded:
    n: int
    d: int
    codes: Codes
    units: Units
    hashes: Any  # [n] int64, equal for equal rows
    source: Rows  # where the rows came from
    originals: Any  # [source.n, d] on the device, or None
    which: Any  # [n] int64: the row of the source, or None: the same
    sizes: Sizes

    def view(self) -> Originals | None:
        """The originals as kernels read them; None where they are on the host."""
        return (
            None
            if self.originals is None
            else Originals(self.originals, self.originals.stride(0), self.which)
        )

    def take(self, positions: Any) -> Any:
        """Rows at positions [m], a tensor on the device -> [m, d] float32 there."""
        rows = positions if self.which is None else self.which[positions]
        if self.originals is not None:
            return self.originals[rows].float()
        return to_device(self.source.take(rows.cpu().numpy()), rows.device)

    def select(self, positions: Array) -> Loaded:
        at = to_device(positions.astype(np.int64), self.codes.norm.device)
        code = torch.zeros((len(at) + PADDING, self.codes.code.shape[1]), dtype=torch.int8, device=at.device)
        torch.index_select(self.codes.code, 0, at, out=code[: len(at)])
        codes = Codes(code, self.codes.norm[at], self.codes.error[at])
        which = at if self.which is None else self.which[at]
        return replace(self, n=len(at), codes=codes, hashes=self.hashes[at], which=which)


def to_device(array: Array, device: torch.device) -> Any:
    return torch.from_numpy(np.require(array, requirements=("C", "W"))).to(device)


def load(rows: Rows, book: Codebook, device: torch.device, sizes: Sizes, room: int, salt: Any) -> Loaded:
    """Rows encoded a block at a time; the originals stay on the device where they fit `room` bytes."""
    n, d = rows.n, rows.d
    width = -(-book.width // CODE_UNIT) * CODE_UNIT
    code = torch.zeros((n + PADDING, width), dtype=torch.int8, device=device)
    norm, error = (torch.empty(n, dtype=kind, device=device) for kind in (torch.int32, torch.float32))
    codes = Codes(code, norm, error)
    hashes = torch.empty(n, dtype=torch.int64, device=device)
    here, stored = _already_there(rows, device), _stored_type(rows)
    originals = here
    if here is None and n * d * stored.itemsize <= room:
        originals = torch.empty((n, d), dtype=stored, device=device)

    step = max(1, BLOCK_BYTES // (4 * d))
    for begin in range(0, n, step):
        block = _block(rows, begin, min(n, begin + step), device)
        encode(block, begin, book, codes, sizes)
        copies.hash_block(block, salt, hashes[begin : begin + len(block)], sizes)
        if originals is not None and here is None:
            originals[begin : begin + len(block)] = block
    return Loaded(n, d, codes, _units(book, d), hashes, rows, originals, None, sizes)


def _units(book: Codebook, d: int) -> Units:
    """Reported distances to code units and back, as csrc/refine.cpp; the 2e-6 covers what is done in
    float32.
    """
    relative = (d + 16) * 2.0**-24
    absolute = float(np.sqrt(d * np.finfo(np.float32).tiny))  # squares of tiny differences underflow
    factor, spare = reference.factor(book), 1 + 2e-6
    return Units(
        (1 + 3 * relative) * spare,
        3 * absolute * factor * spare,
        (1 + 2 * relative) * factor * spare,
        2 * absolute * factor * spare,
    )


def _type(part: Any) -> str:
    return str(part.dtype).removeprefix("torch.")


def _already_there(rows: Rows, device: torch.device) -> Any:
    """The rows themselves where they are one tensor that kernels can read; None otherwise."""
    part = rows.parts[0]
    if len(rows.parts) > 1 or not isinstance(part, torch.Tensor) or part.device != device:
        return None
    readable = part.dtype in (torch.float16, torch.bfloat16, torch.float32)
    return part if readable and part.stride(1) == 1 and part.stride(0) >= 0 else None


def _stored_type(rows: Rows) -> torch.dtype:
    types = {_type(part) for part in rows.parts}
    return STORED.get(types.pop(), torch.float32) if len(types) == 1 else torch.float32


def _block(rows: Rows, begin: int, end: int, device: torch.device) -> Any:
    """Rows [begin, end) as float32 on the device; what lies on a device does not pass through the host."""
    parts = rows.slice(begin, end).parts
    if all(isinstance(part, torch.Tensor) and part.device.type != "cpu" for part in parts):
        return torch.cat([part.to(device).float() for part in parts])
    return to_device(rows.block(begin, end), device)
