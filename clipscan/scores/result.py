"""What `clipscan.score` returns: columns, one value a row, higher = more suspicious."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.scores import show_result
from clipscan.scores.estimate import Estimate, estimate_of
from clipscan.scores.renamed import warn_if_renamed

TOP = 100  # rows, where nobody says how many


def count_of(fraction: float, n: int) -> int:
    """A share of n rows as a number of rows, rounded up; 0.07 of 100 is 7, whatever binary makes of 0.07."""
    return math.ceil(round(fraction * n, 6))


@dataclass
class ScoreResult:
    """Scores of n rows.

    `result[name]` is one column [n], always. `result.scores` is that column where there is no other, and a
    dict of all where several methods or references were asked for. Both, `top` and `flag` give arrays of the
    library of the input, on its device; `columns` and `spread` are dicts of NumPy arrays, always.

    columns    name -> [n] float64. A name is the method ("dao"), with several references "dao@1024x8".
    spread     name -> [n] float64, standard deviation over the draws of the reference (0 for one draw).
    references scale -> the drawn row numbers, one array a draw; hash order, most of them reused by
               every larger scale.
    record     k, reference, metric, normalised, seed, versions: what it takes to compute them again; of
               consensus the convicted populations.
    population [n] int64: the place in record["populations"] of the one that a row was convicted with, -1 for
               none; None where consensus was not asked for.
    """

    columns: dict[str, Array]
    spread: dict[str, Array]
    references: dict[str, list[Array]]
    record: dict[str, Any]
    population: Array | None = None
    convert: Callable[[Array], Any] = field(default=lambda a: a, repr=False)

    @property
    def scores(self) -> Any:
        """The column [n] where there is one, else a dict of columns by name."""
        if len(self.columns) == 1:
            return self[next(iter(self.columns))]
        return {name: self[name] for name in self.columns}

    def __getitem__(self, name: str) -> Any:
        """The column of that name, [n]; InputError where there is none."""
        return self.convert(self._column(name))

    def top(self, count: int | None = None, method: str | None = None) -> Any:
        """Row numbers of the `count` most suspicious rows, int64 [count], most suspicious first; ties by row
        number, NaN last. Unless a count is given 100, or all where there are fewer; InputError for more rows
        than there are."""
        n = len(self._column(method))
        if count is not None and not 0 <= count <= n:
            raise InputError(f"top({count}) of {n} rows: ask for 0 to {n}, or for none in particular: top()")
        return self.convert(self._first(min(TOP, n) if count is None else count, method))

    def flag(
        self, *, fraction: float | None = None, threshold: float | None = None, method: str | None = None
    ) -> Any:
        """[n] bool: the top `fraction` of the rows (rounded up; ties by row number), or all scores above
        `threshold`. InputError for both or neither, and for a fraction outside 0..1."""
        column = self._column(method)
        if (fraction is None) == (threshold is None):
            raise InputError("flag takes either fraction= or threshold=, never both or neither")
        if threshold is not None:
            return self.convert(column > threshold)
        assert fraction is not None
        if not 0 <= fraction <= 1:
            raise InputError(f"fraction={fraction} is not between 0 and 1")
        flags = np.zeros(len(column), bool)
        flags[self._first(count_of(fraction, len(column)), method)] = True
        return self.convert(flags)

    def estimate(self, method: str | None = None) -> Estimate:
        """How many rows to drop: those that consensus convicted, or that stand apart at the suspicious end of
        another score (scores/estimate.py). InputError for a column that is not here.

        `flag(threshold=result.estimate().border)` flags them.
        """
        column = self._column(method)
        return estimate_of(method or next(iter(self.columns)), column)

    def to_arrow(self) -> Any:
        """pyarrow.Table of n rows in their order: `row`, each column [n], `spread_NAME` where draws differ,
        `population` where there is one."""
        return show_result.arrow(self)

    def to_pandas(self) -> Any:
        """The same as a pandas.DataFrame with `row` as its index. ImportError without pandas."""
        return self.to_arrow().to_pandas().set_index("row")

    def __repr__(self) -> str:
        return show_result.short(self)

    def _repr_html_(self) -> str:
        return show_result.html(self)

    def _first(self, count: int, method: str | None) -> Array:
        return np.argsort(-self._column(method), kind="stable")[:count]

    def _column(self, name: str | None) -> Array:
        if name is None and len(self.columns) > 1:
            raise InputError(f"several scores were computed, say which: {', '.join(self.columns)}")
        if name is not None and name not in self.columns:
            name = warn_if_renamed(name, stacklevel=3)
        if name is not None and name not in self.columns:
            raise InputError(f"no score {name!r} here; there are: {', '.join(self.columns)}")
        return self.columns[name or next(iter(self.columns))]
