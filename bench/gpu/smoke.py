"""Each kernel by itself against the definition: the first thing to know of a GPU that nobody has tried.

    python bench/gpu/smoke.py NAME...   [--small]    names: see CHECKS; --small: for compute-sanitizer

A line for each name: "ok", or what is wrong with it. The exit code is 1 where anything is, 3 where something
could not be tried for want of a library. One that builds on another (tables on the filter) tells something
only where that is ok.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clipscan.bench import clustered
from clipscan.engine import Counts, as_rows, codebook, cores, cpu, cuda, reference, triton
from clipscan.engine.devices import Devices
from clipscan.engine.libraries import numpy_of

Array = np.ndarray[Any, Any]

# n, d, k: tiles half full; every processor at work, many rounds
SMALL, LARGE = (300, 70, 5), (20_000, 512, 16)
CAPACITY = 512  # candidates that a row can hold


LEFT_OUT = 3  # exit code


class Wrong(Exception):
    """A kernel gave something else than the definition."""


def check(right: Any, words: str) -> None:
    if not np.all(right):
        count = f" ({np.size(right) - np.count_nonzero(right)} of {np.size(right)})" if np.ndim(right) else ""
        raise Wrong(words + count)


def encode(n: int, d: int, k: int) -> None:
    x = clustered(n, d)
    book = codebook.fit([as_rows(x)])
    planes, norm, error, tile_error = cuda.CudaEngine().load(as_rows(x), book).planes()
    codes, exact = reference.encode(x, book)
    found = unfolded(planes)
    check((found[:n, : book.width] == codes).all(axis=1), "rows of codes differ from reference.encode")
    check(
        not found[n:].any() and not found[:, book.width :].any(),
        "codes past the last row or number are not 0",
    )
    check(norm == (codes.astype(np.int64) ** 2).sum(axis=1), "squared norms differ")
    check((error >= exact) & (error < 1.001 * exact + 0.01), "errors are below the true ones, or far above")
    check(
        tile_error == [error[at : at + 128].max(initial=0) for at in range(0, len(found), 128)],
        "errors of tiles",
    )


def unfolded(planes: Array) -> Array:
    """[chunks, padded, 64] -> [padded, 64 chunks]: piece p of a row lies at place p ^ (row / 2 % 4)."""
    chunks, padded, _ = planes.shape
    row, piece = np.arange(padded)[:, None], np.arange(4)[None]
    pieces = planes.reshape(chunks, padded, 4, 16)[:, row, piece ^ (row // 2 % 4)]
    return np.asarray(pieces.transpose(1, 0, 2, 3).reshape(padded, -1))


def copies(n: int, d: int, k: int) -> None:
    x = clustered(n, d)
    source = np.random.default_rng(1).integers(0, n, n // 3)
    x[n - len(source) :] = x[source]  # of rows that may be copies themselves
    x[n // 2], x[n // 2 + 1] = 0.0, -0.0
    first: dict[bytes, int] = {}
    expected = [first.setdefault((row + 0.0).tobytes(), i) for i, row in enumerate(x)]
    engine = cuda.CudaEngine()
    found = engine.first_of(engine.load(as_rows(x), codebook.fit([as_rows(x)])))
    check(found is not None, "no copies were found")
    check(found == np.array(expected), "the first row equal to each differs")


def filter_alone(name: str, n: int, d: int, k: int) -> None:
    """Every pair that a limit does not rule out is noted, with its distance, and once; none far beyond is."""
    from clipscan.bench.kernel_work import steps

    n = min(n, 1500)  # the definition looks at all pairs
    x = clustered(n, d)
    book = codebook.fit([as_rows(x)])
    timing = cuda._module().Timing(cuda._module().Device(0), [x], *book, k, CAPACITY, cores())
    codes, error = reference.encode(x, book)
    wide = codes.astype(np.float64)  # exact: sums of squares stay below 2^53
    norm = (wide**2).sum(axis=1)
    squared = norm[:, None] + norm - 2 * wide @ wide.T
    least = np.sqrt(squared) - error[:, None] - error  # in code units: nobody is nearer
    np.fill_diagonal(least, np.inf)
    limit = np.quantile(least, 60 / n)
    expected = least <= limit * (1 - 1e-5)
    possible = (
        least <= limit * (1 + 1e-5) + error.max() + 1
    )  # a tile's largest error stands for all of its rows
    for both in (True, False):
        timing.filter(name == "wgmma", *steps(n, name, both), both, limit / reference.factor(book), 0, 1)
        count, waiting = timing.found()
        check(count <= CAPACITY, "rows overflow, which this limit rules out")
        other, far = (waiting & 0xFFFFFFFF).astype(np.int64), waiting >> np.uint64(32)
        row, slot = np.nonzero(np.arange(CAPACITY) < count[:, None])
        other, far = other[row, slot], far[row, slot]
        check(other < n, "candidates that are no rows")
        met = np.zeros((n, n), np.int64)
        np.add.at(met, (row, other), 1)
        side = "both sides" if both else "one side"
        check(met <= 1, f"{side}: pairs noted twice")
        check(met[expected] == 1, f"{side}: pairs within the limit are missing")
        check(possible[met == 1], f"{side}: pairs noted that are far beyond the limit")
        check(far == squared[row, other], f"{side}: products are wrong")


def tables(engine: Any, n: int, d: int, k: int) -> None:
    """A search is filter and refine: its table is the CPU's, bit for bit."""
    x = clustered(n, d)
    rows = as_rows(x)
    right = cpu.within(rows, k, cores(), 1 << 30, Counts())
    distance, index = map(numpy_of, Devices([engine]).within(rows, k, cores(), None, Counts()))
    check((index == right[1]).all(axis=1), "rows of neighbours differ from the CPU's")
    check((distance == right[0]).all(axis=1), "rows of distances differ from the CPU's")


def by_triton(n: int, d: int, k: int) -> None:
    if reason := triton.available():
        raise ImportError(f"back-end 'triton' {reason}")
    tables(triton.engines()[0], n, d, k)


def density(n: int, d: int, k: int) -> None:
    table = cpu.within(as_rows(clustered(n, d)), k, cores(), 1 << 30, Counts())
    right = cpu.density(*table, None, cores())
    for name, column in cuda.CudaEngine().density(*table, None, 1).items():
        check(np.isclose(column, right[name], rtol=1e-12, atol=0), f"{name} differs from the CPU's")


CHECKS: dict[str, Callable[[int, int, int], None]] = {
    "encode": encode,
    "copies": copies,
    "density": density,
    "filter-mma": lambda *size: filter_alone("mma", *size),
    "tables-mma": lambda *size: tables(cuda.CudaEngine(0, "mma"), *size),
    "filter-wgmma": lambda *size: filter_alone("wgmma", *size),
    "tables-wgmma": lambda *size: tables(cuda.CudaEngine(0, "wgmma"), *size),
    "triton": by_triton,
}


def main() -> None:
    names = [name for name in sys.argv[1:] if name != "--small"]
    if unknown := set(names) - set(CHECKS):
        sys.exit(f"no check {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    codes = {run(name, (SMALL,) if "--small" in sys.argv else (SMALL, LARGE)) for name in names}
    sys.exit(1 if 1 in codes else max(codes, default=0))


def run(name: str, sizes: Sequence[tuple[int, int, int]]) -> int:
    """0 ok, 1 wrong, LEFT_OUT; and a line that says so."""
    begin, code = time.perf_counter(), 0
    try:
        for size in sizes:
            CHECKS[name](*size)
        said = f"ok, {time.perf_counter() - begin:.1f} s"
    except Exception as error:  # whatever it is: the others have their turn
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        left_out = name == "triton" and isinstance(error, ImportError)
        code, said = (LEFT_OUT, f"left out: {error}") if left_out else (1, f"WRONG at {size}: {words}")
    print(f"{name}: {said}", flush=True)
    return code


if __name__ == "__main__":
    main()
