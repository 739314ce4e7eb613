from numpy import float32, float64, int64, uint8, uint64
from numpy.typing import NDArray

def knn(
    queries: NDArray[float32],
    reference: NDArray[float32],
    k: int,
    query_id: NDArray[int64] | None = None,
    reference_id: NDArray[int64] | None = None,
    threads: int = 1,
    instruction_set: str = "",
) -> tuple[NDArray[float32], NDArray[int64]]: ...
def density(
    distance: NDArray[float32],
    index: NDArray[int64],
    kdist: NDArray[float64] | None = None,
    lid: NDArray[float64] | None = None,
    lrd: NDArray[float64] | None = None,
    threads: int = 1,
) -> dict[str, NDArray[float64]]: ...
def bad_rows(rows: NDArray[float32], threads: int = 1) -> NDArray[uint8]: ...
def hash_rows(rows: NDArray[float32], threads: int = 1) -> NDArray[uint64]: ...
def mean_cosine(
    a: NDArray[float32], b: NDArray[float32], index: NDArray[int64], threads: int = 1
) -> NDArray[float64]: ...
def instruction_sets() -> list[str]: ...
