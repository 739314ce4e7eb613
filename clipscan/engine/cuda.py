"""The CUDA engine of one NVIDIA GPU: clipscan/_cuda, from csrc/gpu and kernels/cuda."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from clipscan import _core
from clipscan.engine.arrays import Array, Rows
from clipscan.engine.codebook import Codebook
from clipscan.engine.libraries import device_of, numpy_of
from clipscan.engine.limits import FEW_ROWS, Counts, Limits
from clipscan.engine.protocol import Span, Table
from clipscan.engine.threads import cores
from clipscan.errors import BackendError, DeviceLost, InputError

if TYPE_CHECKING:  # not built everywhere
    from clipscan import _cuda

LIMITS = Limits(max_k=1024, max_d=1 << 14)  # as in kernels/cuda/kernels.h
SHARE = 0.4  # of the free memory: to work in where nobody says; as much again holds the original rows

T = TypeVar("T")


@cache
def _module() -> ModuleType:
    return importlib.import_module("clipscan._cuda")


def available() -> str | None:
    """Why this back-end cannot serve, None where it can."""
    try:
        cuda = _module()
    except ImportError as error:
        return (
            f"was left out when clipscan was built ({error}): that needs a CUDA compiler, nvcc 12.4 or later"
        )
    try:
        return None if _usable(cuda) else "finds no device of compute capability 8.0 (A100) or later"
    except cuda.Error as error:
        return str(error)


def engines(devices: Sequence[str] | None = None) -> list[CudaEngine]:
    """One for each device by name ("cuda:0"), for all without names; BackendError where none can serve."""
    return [CudaEngine(number) for number in _numbers(devices)]


def identity(devices: Sequence[str] | None = None) -> list[str]:
    """What a verdict on this back-end depends on: the build, then each device as its driver names it."""
    cuda = _module()
    build = hashlib.sha256(Path(cuda.__file__ or "").read_bytes()).hexdigest()
    try:
        return [f"build {build}", *map(cuda.identity, _numbers(devices))]
    except cuda.Error as error:
        raise BackendError(f"back-end 'cuda': {error}") from error


def _numbers(devices: Sequence[str] | None) -> list[int]:
    if reason := available():
        raise BackendError(f"back-end 'cuda' {reason}")
    usable = [f"cuda:{number}" for number in _usable(_module())]
    if unknown := [name for name in devices or () if name not in usable]:
        raise BackendError(f"back-end 'cuda' has no device {', '.join(unknown)}; it has {', '.join(usable)}")
    return [int(name.partition(":")[2]) for name in devices or usable]


def _usable(cuda: ModuleType) -> list[int]:
    return [n for n in range(cuda.device_count()) if cuda.capability(n) >= (8, 0)]


class CudaEngine:
    """engine/protocol.py on CUDA device `number`. `filter`: mma (8.0 and later), wgmma (9.0) or auto."""

    def __init__(self, number: int = 0, filter: str = "auto"):
        self._cuda = _module()
        self.name = f"cuda:{number}"
        self._device: _cuda.Device = self._call(lambda: self._cuda.Device(number))
        newest = self._device.capability[0] == 9
        if filter == "wgmma" and not newest:
            raise InputError(f"the wgmma kernel is for compute capability 9.0, not {self._device.capability}")
        self._wgmma = newest if filter == "auto" else filter == "wgmma"
        self.default_memory = self.room_for_rows = int(SHARE * self._free())

    def load(self, rows: Rows, book: Codebook) -> _cuda.Loaded:
        host, capsules = self._parts(rows)
        room = min(self.room_for_rows, int(SHARE * self._free()))
        return self._call(lambda: self._cuda.load(self._device, host, capsules, *book, room, cores()))  # type: ignore[no-any-return]

    def hash_rows(self, rows: Rows) -> Array:
        """As _core.hash_rows, of rows on this device."""
        _, capsules = self._parts(rows)
        return self._call(lambda: self._cuda.hash_rows(self._device, capsules, rows.d))  # type: ignore[no-any-return]

    def first_of(self, loaded: _cuda.Loaded) -> Array | None:
        return self._call(lambda: loaded.first_of(cores()))

    def select(self, loaded: _cuda.Loaded, positions: Array) -> _cuda.Loaded:
        return self._call(lambda: loaded.select(positions.astype(np.uint32)))

    def least_memory(self, rows: int, k: int) -> int:
        return rows * int(self._cuda.least_row_memory(k)) if rows > FEW_ROWS else 0

    def pairs(
        self,
        loaded: _cuda.Loaded,
        a: Span,
        b: Span,
        k: int,
        limit_a: Array,
        limit_b: Array,
        memory: int,
        counts: Counts,
    ) -> tuple[Table, Table | None]:
        def search(memory: int) -> Any:
            return self._cuda.pairs(loaded, a, b, k, limit_a, limit_b, memory, cores(), self._wgmma)

        first, second, passed, measured = self._with_less(search, memory)
        _count(counts, passed, measured)
        return first, second

    def between(
        self,
        queries: _cuda.Loaded,
        reference: _cuda.Loaded,
        rows: Span,
        k: int,
        query_id: Array | None,
        reference_id: Array | None,
        spans: Sequence[Span],
        memory: int,
        counts: Counts,
    ) -> list[Table]:
        def search(memory: int) -> Any:
            ids = (query_id, reference_id)
            return self._cuda.between(
                queries, reference, rows, k, *ids, list(spans), memory, cores(), self._wgmma
            )

        tables, passed, measured = self._with_less(search, memory)
        _count(counts, passed, measured)
        return tables  # type: ignore[no-any-return]

    def density(
        self, distance: Any, index: Any, reference: Mapping[str, Array] | None, threads: int
    ) -> dict[str, Array]:
        n, k = distance.shape
        if device_of(distance) == self.name:
            stream = self._device.stream
            distance, index = distance.__dlpack__(stream=stream), index.__dlpack__(stream=stream)
        else:
            distance, index = numpy_of(distance), numpy_of(index)
        columns = [None if reference is None else reference[name] for name in ("kdist", "lid", "lrd")]
        return self._call(  # type: ignore[no-any-return]
            lambda: self._cuda.density(self._device, distance, index, n, k, *columns)
        )

    def mean_cosine(self, a: Array, b: Array, index: Array, threads: int) -> Array:
        return _core.mean_cosine(a, b, index, threads)

    def interrupt(self) -> None:
        self._device.interrupt()

    def _parts(self, rows: Rows) -> tuple[list[Array], list[Any]]:
        """The rows on the host, or as DLPack capsules for this engine's stream."""
        here = rows.on_device(self._device.number)
        if here is None:
            return rows.sources(), []
        return [], [part.__dlpack__(stream=self._device.stream) for part in here]

    def _free(self) -> int:
        return self._call(self._device.free_memory)

    def _with_less(self, search: Callable[[int], T], memory: int) -> T:
        """Once more with half the memory where the device has not as much as it promised."""
        try:
            return search(memory)
        except self._cuda.OutOfMemory:
            return self._call(lambda: search(memory // 2))
        except self._cuda.Error as error:
            raise DeviceLost(f"{self.name}: {error}") from error

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._cuda.OutOfMemory as error:
            raise BackendError(
                f"{self.name}: {error}; {self._free()} bytes are free. Free some, give a "
                "smaller max_memory=, or use backend='cpu'"
            ) from error
        except self._cuda.Error as error:
            raise DeviceLost(f"{self.name}: {error}") from error


def _count(counts: Counts, passed: int, measured: int) -> None:
    counts.passed += passed
    counts.measured += measured
