from collections.abc import Callable, Sequence
from typing import Any

from numpy import float32, float64, int8, int64, uint8, uint32, uint64
from numpy.typing import NDArray

def knn_between(
    queries: list[NDArray[Any]],
    reference: list[NDArray[Any]],
    k: int,
    query_id: NDArray[int64] | None,
    reference_id: NDArray[int64] | None,
    spans: Sequence[tuple[int, int]],
    centre: NDArray[float32],
    sign: NDArray[float32],
    gain: float,
    threads: int,
    memory: int,
    instruction_set: str = "",
) -> tuple[list[tuple[NDArray[float32], NDArray[int64]]], int, int]: ...
def knn_within(
    rows: list[NDArray[Any]],
    k: int,
    centre: NDArray[float32],
    sign: NDArray[float32],
    gain: float,
    threads: int,
    memory: int,
    instruction_set: str = "",
) -> tuple[NDArray[float32], NDArray[int64], int, int]: ...
def encode(
    rows: list[NDArray[Any]],
    centre: NDArray[float32],
    sign: NDArray[float32],
    gain: float,
    instruction_set: str = "",
) -> tuple[NDArray[int8], NDArray[float32]]: ...
def density(
    distance: NDArray[float32],
    index: NDArray[int64],
    kdist: NDArray[float64] | None = None,
    lid: NDArray[float64] | None = None,
    lrd: NDArray[float64] | None = None,
    threads: int = 1,
) -> dict[str, NDArray[float64]]: ...
def bad_rows(rows: list[NDArray[Any]], d: int, threads: int = 1) -> NDArray[uint8]: ...
def hash_rows(rows: list[NDArray[Any]], d: int, threads: int = 1) -> NDArray[uint64]: ...
def expand_copies(
    distance: NDArray[float32], index: NDArray[int64], first_of: NDArray[uint32], threads: int = 1
) -> tuple[NDArray[float32], NDArray[int64]]: ...
def mean_cosine(
    a: NDArray[float32], b: NDArray[float32], index: NDArray[int64], threads: int = 1
) -> NDArray[float64]: ...
def instruction_sets() -> list[str]: ...
def why_not_amx() -> str: ...
def why_not_amx_where(
    compiled: bool, avx512: bool, tile: bool, int8: bool, permit: Callable[[], int]
) -> str: ...
def peak(threads: int = 1, instruction_set: str = "") -> dict[str, float]: ...
def resample(
    picture: object,  # capsule "arrow_array"
    size: tuple[int, int],
    full: tuple[int, int],
    corner: tuple[int, int],
    part: tuple[int, int],
    cubic: bool,
    instruction_set: str = "",
) -> bytes: ...
def resample_instruction_sets() -> list[str]: ...
