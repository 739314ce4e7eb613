"""What is asked of the engine, checked at its door; inside, nothing is checked again."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipscan import _core
from clipscan.engine.arrays import Array, Rows
from clipscan.engine.threads import cores
from clipscan.errors import InputError

MAX_SQUARED_NORM = 1e37  # as in csrc/rows.cpp: |x-y|^2 <= 2|x|^2 + 2|y|^2 has to stay a float32


def check_rows(rows: Rows, threads: int | None = None) -> None:
    """Raises InputError naming the rows of [n, d] that hold NaN or inf, or whose norm leaves float32."""
    bad = bad_rows(rows, threads)
    if len(bad):
        shown = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise InputError(
            f"{rows.name}: {len(bad)} of {rows.n} rows hold NaN or infinity, or a norm above 3e18, "
            f"which float32 distances cannot carry: rows {shown}; remove or repair them"
        )


def bad_rows(rows: Rows, threads: int | None = None) -> Array:
    """Numbers of the rows that hold NaN or inf, or whose norm leaves float32 [bad] int64, ascending."""
    if rows.on_gpu:
        return np.flatnonzero(~(rows.squared_norms() <= MAX_SQUARED_NORM))  # NaN fails every comparison
    return np.flatnonzero(_core.bad_rows(rows.sources(), rows.d, threads or cores()))


def check_identity(ids: Any, rows: Rows | None) -> Array | None:
    """Identities of rows [n, d] as int64 [n], None where none are given. InputError unless n integers."""
    if ids is None or rows is None:
        return None
    array = np.asarray(ids)
    if array.shape != (rows.n,) or array.dtype.kind not in "iu":
        raise InputError(
            f"{rows.name}: identities must be {rows.n} integers, got {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array, np.int64)


def check_k(k: int, m: int, itself: bool) -> None:
    """Raises InputError unless m reference rows have k neighbours for each query; itself: a self-search."""
    most = m - 1 if itself else m
    if k < 1:
        raise InputError(f"k must be at least 1, got k={k}")
    if k > most:
        raise InputError(
            f"k={k} neighbours need {'more than' if itself else 'at least'} k reference rows, got {m}; "
            f"use k <= {most}" + ("" if most > 0 else " or more rows")
        )
