"""Density scores of fitted rows among themselves, and of new rows among them, as other libraries' detectors
give them."""

from __future__ import annotations

import numpy as np

from clipscan.engine import Neighbors, density
from clipscan.engine.arrays import Array
from clipscan.engine.metric import Metric, nearest, placed
from clipscan.errors import InputError


class FittedDensity:
    """Finite rows [m, d], float32 or float64, with k < m neighbours each, none its own.

    columns: name -> [m] float64, of the fitted rows: kdist, lid, lid_mom, lrd, lof, slof, dao, logdao
    (engine/reference.py:density). kdist is in the unit of the metric; lrd is in a unit of this class.
    """

    def __init__(self, rows: Array, k: int, metric: Metric = "euclidean", threads: int | None = None):
        self.rows, self.k, self.metric, self.threads = placed(rows, metric), k, metric, threads
        table = nearest(self.rows, None, k, metric, threads)
        self._unit = _unit_of(table.distance)
        found = density(self._scaled(table), threads=threads)
        self._reference = {name: found[name] for name in ("kdist", "lid", "lrd")}
        self.columns = self._of(table, found)

    def score(self, rows: Array) -> dict[str, Array]:
        """The same columns of new finite rows [n, d] among the fitted ones, [n] each; a fitted row among them
        has itself as a neighbour. InputError for another width."""
        if rows.shape[1] != self.rows.shape[1]:
            raise InputError(f"fitted rows have width {self.rows.shape[1]}, new ones {rows.shape[1]}")
        table = nearest(self.rows, placed(rows, self.metric), self.k, self.metric, self.threads)
        return self._of(table, density(self._scaled(table), self._reference, threads=self.threads))

    def _scaled(self, table: Neighbors) -> Neighbors:
        """The table in units in which float32 holds every distance; ratios do not depend on it."""
        return Neighbors((table.distance / self._unit).astype(np.float32), table.index)

    def _of(self, table: Neighbors, found: dict[str, Array]) -> dict[str, Array]:
        return found | {"kdist": table.distance[:, -1].astype(np.float64)}


def _unit_of(distance: Array) -> float:
    """A power of two about the median distance [n, k] that is not 0; 1 where all are."""
    apart = distance[distance > 0]
    return float(2.0 ** np.round(np.log2(np.median(apart)))) if apart.size else 1.0
