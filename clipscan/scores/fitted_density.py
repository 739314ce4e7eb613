"""Density scores of fitted rows among themselves, and of new rows among them, as other libraries' detectors
give them."""

from __future__ import annotations

import numpy as np

from clipscan.engine import Neighbors, density
from clipscan.engine.arrays import Array
from clipscan.engine.metric import Metric, nearest, placed
from clipscan.errors import InputError

FARTHEST = 1e300  # units, of which float64 holds sums
SMALLEST, LARGEST = 1e-30, 1e30  # distances of which float32 holds sums and quotients


class FittedDensity:
    """Finite rows [m, d], float32 or float64, with k < m neighbours each, none its own.

    columns: name -> [m] float64, of the fitted rows: kdist, lid, lid_mom, lrd, lof, slof, dao, logdao
    (engine/reference.py:density). kdist is in the unit of the metric; lrd is in a unit of this class.
    InputError for rows whose neighbours are about 1e300 times as far away as most.
    """

    def __init__(self, rows: Array, k: int, metric: Metric = "euclidean", threads: int | None = None):
        self.rows, self.k, self.metric, self.threads = placed(rows, metric), k, metric, threads
        table = nearest(self.rows, None, k, metric, threads)
        self._unit = _unit_of(table.distance)
        found = self._density(table, None)
        self._reference = {name: found[name] for name in ("kdist", "lid", "lrd")}
        self.columns = self._of(table, found)

    def score(self, rows: Array) -> dict[str, Array]:
        """The same columns of new finite rows [n, d] among the fitted ones, [n] each; a fitted row among them
        has itself as a neighbour. InputError for another width."""
        if rows.shape[1] != self.rows.shape[1]:
            raise InputError(f"fitted rows have width {self.rows.shape[1]}, new ones {rows.shape[1]}")
        table = nearest(self.rows, placed(rows, self.metric), self.k, self.metric, self.threads)
        return self._of(table, self._density(table, self._reference))

    def _density(self, table: Neighbors, reference: dict[str, Array] | None) -> dict[str, Array]:
        """Densities in units of the median distance; ratios do not depend on it. Where float32 cannot hold
        the distances side by side the definition computes them in float64, slower."""
        with np.errstate(over="ignore"):
            distance = table.distance.astype(np.float64) / self._unit
        if len(beyond := np.flatnonzero((distance > FARTHEST).any(axis=1))):
            raise InputError(
                f"row {beyond[0]} has a neighbour further away than float64 can score; "
                "leave it out, or scale it down"
            )
        apart = distance[distance > 0]
        fits = not apart.size or (apart.min() >= SMALLEST and apart.max() <= LARGEST)
        scaled = Neighbors(distance.astype(np.float32) if fits else distance, table.index)
        return density(scaled, reference, backend="auto" if fits else "reference", threads=self.threads)

    def _of(self, table: Neighbors, found: dict[str, Array]) -> dict[str, Array]:
        return found | {"kdist": table.distance[:, -1].astype(np.float64)}


def _unit_of(distance: Array) -> float:
    """A power of two about the median distance [n, k] that is not 0; 1 where all are."""
    apart = distance[distance > 0]
    if not apart.size:
        return 1.0
    exponent = np.round(np.log2(np.median(apart / 2))) + 1  # a median adds two distances
    return float(2.0 ** np.clip(exponent, -1022, 1023))
