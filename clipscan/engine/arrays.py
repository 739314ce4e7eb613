"""Vectors as they come: NumPy, memory maps, torch, CuPy, JAX, frames, several shards; read as float32 blocks.

Nothing is converted before it is needed: an array larger than memory stays where it is and is
read a block at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from clipscan.engine.frames import LIBRARIES, rows_of_frame
from clipscan.engine.libraries import device_of, library_of, numpy_of, type_of
from clipscan.errors import InputError

Array = np.ndarray[Any, Any]

READ = ("float16", "bfloat16", "float32", "float64")  # types that kernels read, by their name in any library
CONVERTED = ("float8_", np.dtype(np.longdouble).name)  # and how those begin that are made float32 first
BLOCK_BYTES = 64 << 20  # float32 rows read at once: large enough for all threads, small beside any budget


class Rows:
    """n vectors of width d in one or several parts [n_i, d]; `block` and `take` give C-contiguous float32."""

    def __init__(self, parts: Sequence[Any], name: str):
        self.name = name
        self.parts = list(parts)
        self._starts = np.concatenate([[0], np.cumsum([p.shape[0] for p in parts])]).astype(np.int64)
        self.n, self.d = int(self._starts[-1]), int(parts[0].shape[1])

    def block(self, start: int, stop: int) -> Array:
        """Rows [start, stop) as float32 [stop - start, d]; a view where the input allows one."""
        pieces = [_float32(part) for part in self.slice(start, stop).parts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def slice(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) as Rows [stop - start, d], where they lie."""
        pieces = []
        for part, first in zip(self.parts, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, part.shape[0])
            if low < high:
                pieces.append(part[int(low) : int(high)])
        return Rows(pieces or [self.parts[0][:0]], self.name)

    def take(self, rows: Array) -> Array:
        """The numbered rows, in that order, as float32 [len(rows), d]."""
        out = np.empty((len(rows), self.d), np.float32)
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        for p in np.unique(part_of):
            here = part_of == p
            # Ascending order: a memory map is then read forwards, once.
            wanted = np.asarray(rows)[here] - self._starts[p]
            if (wanted[1:] > wanted[:-1]).all():
                out[here] = _float32(_picked(self.parts[p], wanted))
                continue
            wanted, back = np.unique(wanted, return_inverse=True)
            out[here] = _float32(_picked(self.parts[p], wanted))[back]
        return out

    def squared_norms(self) -> Array:
        """|x|^2 of each row [n] float32, computed where the rows lie; for rows on a GPU."""
        step = max(1, BLOCK_BYTES // (4 * self.d))
        return np.concatenate(
            [
                _squared_norms(part[at : at + step])
                for part in self.parts
                for at in range(0, part.shape[0], step)
            ]
            or [np.empty(0, np.float32)]
        )

    @property
    def on_gpu(self) -> bool:
        """Whether every part lies on a GPU."""
        return all(device_of(part) != "cpu" for part in self.parts)

    def on_device(self, number: int) -> list[Any] | None:
        """The parts as arrays with __dlpack__ on CUDA device `number`; None where one lies elsewhere: on the
        host, or on another device (torch tensors are copied from there)."""
        there = f"cuda:{number}"
        parts = [_moved(part, there) for part in self.parts if part.shape[0]]
        return parts if parts and all(device_of(part) == there for part in parts) else None

    def sources(self) -> list[Array]:
        """The parts [n_i, d] as the C++ core reads them: where they lie, float16, float32, float64, or
        bfloat16 as uint16. What has no such form (another device, another byte order) is copied once, as
        float32."""
        return [_source(part) for part in self.parts]

    def blocks(self, rows: int | None = None) -> Iterator[tuple[int, Array]]:
        """(first row number, float32 block [b, d]) over all rows; b is `rows`, or what BLOCK_BYTES hold."""
        step = rows or max(1, BLOCK_BYTES // (4 * self.d))
        for start in range(0, self.n, step):
            yield start, self.block(start, min(self.n, start + step))


def as_rows(x: Any, name: str = "embeddings") -> Rows:
    """Rows over anything array-like of shape [n, d]; raises InputError in words otherwise.

    One rule for NumPy, ml_dtypes, torch, CuPy and JAX: float16, bfloat16, float32 and float64 are read as
    they lie, each kind of float8 and NumPy's longdouble as float32, without a scale; integers, complex
    numbers and types of fewer bits are refused.
    """
    if isinstance(x, Rows):
        return x
    if (
        isinstance(x, (list, tuple))
        and x
        and all(hasattr(part, "shape") and len(part.shape) == 2 for part in x)
    ):
        parts = [_native(part, name) for part in x]
    else:
        parts = [_native(x, name)]
    widths = {int(part.shape[1]) for part in parts}
    if len(widths) > 1:
        raise InputError(f"{name}: the parts differ in width: {sorted(widths)}")
    if 0 in widths:
        raise InputError(f"{name}: rows of width 0 have no distances")
    return Rows(parts, name)


def _squared_norms(part: Any) -> Array:
    x = part.float() if library_of(part) == "torch" else part.astype("float32")
    found = (x * x).sum(1)
    return found.get() if library_of(part) == "cupy" else numpy_of(found)


def _moved(part: Any, there: str) -> Any:
    torch = library_of(part) == "torch"
    if torch and part.device.type == "cuda":
        part = part.to(there)
    if type_of(part) in READ:
        return part
    return part.float() if torch else part.astype("float32")


def _picked(part: Any, rows: Array) -> Any:
    if library_of(part) == "cupy":
        return part[sys.modules["cupy"].asarray(rows)]
    return part[rows]


def _native(x: Any, name: str) -> Any:
    """x as something sliceable [n, d]: torch tensors and what lies on a GPU as it is, all else as NumPy's."""
    if library_of(x) in LIBRARIES:
        x = rows_of_frame(x, name)
    array = x.detach() if library_of(x) == "torch" else _numpy(x, name) if device_of(x) == "cpu" else x
    if array.ndim != 2:
        raise InputError(
            f"{name}: expected one row a sample, shape [n, d], got shape {tuple(array.shape)}"
            + ("; for one vector pass x[None, :]" if array.ndim == 1 else "")
        )
    if not (kind := type_of(array)).startswith((*READ, *CONVERTED)):
        raise InputError(
            f"{name}: expected float8, float16, bfloat16, float32 or float64, got {kind}; convert it first"
        )
    return array


def _numpy(x: Any, name: str) -> Array:
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "get") and type(x).__module__.startswith("cupy"):
        return x.get()  # type: ignore[no-any-return]
    if hasattr(x, "__array__") or not hasattr(x, "__dlpack__"):
        return np.asarray(x)
    try:
        return np.from_dlpack(x)
    except (RuntimeError, BufferError) as other:  # such as bfloat16, which NumPy has no name for
        raise InputError(
            f"{name}: NumPy cannot take this {type(x).__name__} over by DLPack: {other}; pass it as a torch "
            "tensor"
        ) from other


def _source(part: Any) -> Array:
    if library_of(part) == "torch" and part.device.type == "cpu":
        torch = sys.modules["torch"]
        if part.dtype == torch.bfloat16:  # NumPy has no such type
            return part.view(torch.int16).numpy().view(np.uint16)  # type: ignore[no-any-return]
        if part.dtype in (torch.float16, torch.float32, torch.float64):
            return part.numpy()  # type: ignore[no-any-return]
    if isinstance(part, np.ndarray) and part.flags.aligned and part.dtype.isnative:
        if part.dtype.name == "bfloat16":
            return part.view(np.uint16)
        if part.dtype in (np.float16, np.float32, np.float64):
            return part
    return _float32(part)


def _float32(part: Any) -> Array:
    if library_of(part) == "torch":
        part = part.float().cpu().numpy()
    elif not isinstance(part, np.ndarray):  # on a GPU
        part = part.get() if library_of(part) == "cupy" else np.asarray(part)
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves float32 is found by the door check
        return np.ascontiguousarray(part, dtype=np.float32)


def unit(vectors: Array) -> Array:
    """Each row of [n, d] divided by its length; a zero row stays as it is."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def normalised(vectors: Array) -> Array:
    """Vectors [..., d] divided by their length, or by 1e-12 where that is more.

    Unlike `unit` it takes a single vector too, leaves a length below 1e-12 below 1, and NaN as it is.
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-12))
