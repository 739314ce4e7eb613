"""Hub counts: how often a row stands in other rows' neighbour lists (Radovanovic et al. 2010, Hubs in Space).

In high dimensions these counts are skewed: a few hubs are everybody's neighbour, many rows are nobody's
("anti-hubs", which that paper relates to outliers).
"""

from __future__ import annotations

import numpy as np

from clipscan.engine import Neighbors
from clipscan.engine.arrays import Array
from clipscan.scores.groups import components


def hubness(graph: Neighbors) -> Array:
    """N_k [n] int64: the k-occurrence of each row, the number of lists of `graph` that it stands in.

    graph: the self-search table of a whole set. Its mean is k where every list is full. Of more than k + 1
    exact copies only the first k + 1 rows stand in any list (ties go by row).
    """
    index = np.asarray(graph.index)
    return np.bincount(index[index >= 0], minlength=graph.n).astype(np.int64)


def anti_hubs(graph: Neighbors) -> Array:
    """1 / (1 + N_k) [n] float64: 1 for a row that is nobody's neighbour, near 0 for a hub.

    Exact copies share the mean of their counts, so that the order of rows does not matter.
    """
    return 1.0 / (1.0 + _shared(hubness(graph).astype(np.float64), graph))


def _shared(count: Array, graph: Neighbors) -> Array:
    """The mean over each set of rows that are joined by distances of zero."""
    distance, index = np.asarray(graph.distance), np.asarray(graph.index)
    row, column = np.nonzero((distance == 0) & (index >= 0))
    copy = components(graph.n, row, index[row, column])
    total, size = (np.bincount(copy, weights, graph.n) for weights in (count, None))
    return np.asarray(total[copy] / size[copy])
