"""Rows out of data frames: pandas and polars, a column a coordinate, or one column of vectors.

Neither library is imported: whoever passes a frame has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clipscan.engine.neighbors import Array
from clipscan.errors import InputError

LIBRARIES = ("pandas", "polars")
NUMBERS = "biuf"  # kinds of NumPy; the door says which of them are served


def rows_of_frame(x: Any, name: str) -> Array:
    """A pandas or polars DataFrame of number columns as [n, d], where it allows one without a copy; of a
    Series of vectors of one length the vectors [n, d]. What is missing is NaN. InputError for columns of
    anything else, and for vectors that differ in length."""
    if len(x.shape) == 1:
        return _stacked(x, name)
    kinds = x.dtypes if isinstance(x.dtypes, list) else list(x.dtypes)
    other = [str(column) for column, kind in zip(x.columns, kinds, strict=True) if not _is_number(kind)]
    if other:
        shown = ", ".join(repr(one[:40]) for one in other[:5])
        raise InputError(
            f"{name}: {len(other)} of {x.shape[1]} columns hold no numbers: {shown}; leave them out, or pass "
            "one column of vectors by itself: frame['embedding']"
        )
    array = x.to_numpy()
    if array.dtype != object:
        return array  # type: ignore[no-any-return]
    return x.to_numpy(dtype=np.float64, na_value=np.nan)  # type: ignore[no-any-return]  # nullable pandas


def _is_number(kind: Any) -> bool:
    if hasattr(kind, "is_numeric"):
        return bool(kind.is_numeric())  # polars
    return getattr(kind, "kind", "O") in NUMBERS


def _stacked(series: Any, name: str) -> Array:
    array = series.to_numpy()
    if array.ndim == 2 or array.dtype != object:  # polars' arrays of one width; plain numbers, refused later
        return array  # type: ignore[no-any-return]
    vectors = [np.asarray(one) for one in array]
    shapes = {one.shape for one in vectors}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        first = next(i for i, one in enumerate(vectors) if one.ndim != 1 or one.shape != vectors[0].shape)
        raise InputError(
            f"{name}: row {first} of the column is no vector of the first row's length: shape "
            f"{vectors[first].shape}, the first has {vectors[0].shape}"
        )
    return np.stack(vectors) if vectors else np.empty((0, 0))
