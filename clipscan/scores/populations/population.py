"""A population, and which rows of a dataset are in which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from clipscan.engine.arrays import Array

PART = 0.9  # of a population's rows in another one: they are the same


class Population(NamedTuple):
    """kind; rows, surest first: `number` convicted ones, of which `fewest` are sure, and those up to `most`
    that may belong to it. pictures: distinct ones among the convicted. misfit: their mean negative log tail
    (1 is usual), null_share: estimated share of clean pairs among them (Storey 2002); NaN without
    captions."""

    kind: str
    rows: Array
    fewest: int
    number: int
    most: int
    pictures: int
    misfit: float
    null_share: float
    bearing: Array  # [n]: negative log tail of the trait, 0 where there is none

    def record(self) -> dict[str, Any]:
        """For JSON, which has no NaN, without the rows."""
        told = {name: value for name, value in self._asdict().items() if name not in ("rows", "bearing")}
        return {name: None if value != value else value for name, value in told.items()}


def populated(found: Sequence[Population], n: int) -> Array:
    """Which of the populations each of n rows is convicted with, the first of several; -1 for none."""
    label = np.full(n, -1, np.int64)
    for number in reversed(range(len(found))):
        label[found[number].rows[: found[number].number]] = number
    return label


def without_parts(found: Sequence[Population]) -> list[Population]:
    """Without populations that are part of another: one kind of poison is found in several ways."""
    kept: list[Population] = []
    for one in sorted(found, key=lambda one: -one.number):
        rows = one.rows[: one.number]
        inside = [np.isin(rows, other.rows[: other.number]).mean() for other in kept]
        if not inside or max(inside) < PART:
            kept.append(one)
    return kept
