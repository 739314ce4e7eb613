"""Groups: near-copies in the exact graph over the whole set, and suspects whose captions say the same.

Poison that is one picture many times, dead-link placeholders and re-captioned copies are dense, not
sparse; density scores rank them last. What tells them apart is the size of the group and whether its
captions agree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipscan.engine import Neighbors, as_rows, search
from clipscan.engine.arrays import Array, unit
from clipscan.errors import InputError
from clipscan.scores.references import identify

# Of the typical k-distance: rows as near as that are copies, not neighbours. The demo's placeholder and
# re-encoded copies stand apart up to 0.2 (12 groups, two of them planted); at 0.3 its small encoder takes
# 254 groups of look-alikes for copies.
SHARE = 0.2

# Of the typical distance between two captions: nearer ones say the same. Captions made from templates lie
# within 0.1 of one another for one word and beyond 0.5 for two, in the encoders of the laboratory.
SAME = 1 / 3
LINKS = 16  # nearest captions that a caption may be linked with


class Groups(NamedTuple):
    """label [n] int64: the group of each row, -1 for none; groups are numbered by size, largest first.

    size [g] int64; bound: rows nearer than this are connected.
    """

    label: Array
    size: Array
    bound: float


def near_copies(graph: Neighbors, bound: float | None = None) -> Groups:
    """Rows connected by graph edges of distance <= bound.

    The bound is chosen from the data: SHARE times the median k-distance of the rows that are not inside
    k+1 copies of one point (their k-distance is 0). `graph` is a self-search table over the whole set.
    """
    distance, index = np.asarray(graph.distance), np.asarray(graph.index)
    if bound is None:
        kdist = distance[:, -1]
        kdist = kdist[np.isfinite(kdist) & (kdist > 0)]
        bound = SHARE * float(np.median(kdist)) if len(kdist) else 0.0
    near = (distance <= bound) & (index >= 0)
    rows = np.broadcast_to(np.arange(graph.n)[:, None], index.shape)[near]
    return _numbered(components(graph.n, rows, index[near]), bound)


def copies(group: Array) -> Groups:
    """The groups of exact copies, from the content groups of scores/references.py:identify; linear in n."""
    return _numbered(group, 0.0)


def alike(captions: Array, typical: float) -> Groups:
    """Rows whose captions say the same: caption vectors [m, d] of any length, linked by direction.

    Two captions are linked when one is among the LINKS nearest of the other and their unit vectors lie
    within SAME times `typical`, the typical_distance of random captions.
    """
    content = identify(as_rows(captions)).group
    _, first, place = np.unique(content, return_index=True, return_inverse=True)
    distinct = unit(captions[first])
    bound = SAME * typical
    if len(first) < 2:
        return _numbered(content, bound)
    graph = search(as_rows(distinct), None, min(LINKS, len(first) - 1))
    near = (graph.distance <= bound) & (graph.index >= 0)
    rows = np.broadcast_to(np.arange(len(first))[:, None], graph.index.shape)[near]
    return _numbered(components(len(first), rows, graph.index[near])[place.ravel()], bound)


def typical_distance(vectors: Array) -> float:
    """Median distance between the directions of rows 0 and 1, 2 and 3, ... of [n, d]; equal ones do not
    count, and 1 where all are equal."""
    directions = unit(vectors[: len(vectors) // 2 * 2])
    distance = np.linalg.norm(directions[::2] - directions[1::2], axis=1)
    return float(np.median(distance[distance > 0])) if (distance > 0).any() else 1.0


def caption_agreement(text: Array) -> float:
    """Mean cosine over all pairs of caption vectors [g, d] of one group; NaN for fewer than two captions.

    A zero vector has cosine 0. Linear in g: |sum of unit vectors|^2 counts every pair twice and itself once.
    """
    if text.ndim != 2:
        raise InputError(f"caption vectors of a group are [g, d], got {text.shape}")
    g = len(text)
    if g < 2:
        return float("nan")
    directions = unit(text.astype(np.float64))
    return float(((directions.sum(axis=0) ** 2).sum() - (directions**2).sum()) / (g * (g - 1)))


def components(n: int, a: Array, b: Array) -> Array:
    """Connected components of n rows under the edges (a[i], b[i]): [n], the lowest row of each.

    Labels flow along edges and jump to their label's label, so long chains take few rounds.
    """
    label = np.arange(n)
    while True:
        lower = np.minimum(label[a], label[b])
        after = label.copy()
        np.minimum.at(after, label[a], lower)
        np.minimum.at(after, label[b], lower)
        np.minimum.at(after, a, lower)
        np.minimum.at(after, b, lower)
        after = after[after]
        if (after == label).all():
            return label
        label = after


def _numbered(component: Array, bound: float) -> Groups:
    """Components of at least two rows, largest first; ties by their first row."""
    _, first, inverse, size = np.unique(component, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -size))
    order = order[size[order] > 1]
    number = np.full(len(size), -1, np.int64)
    number[order] = np.arange(len(order))
    return Groups(number[inverse.ravel()], size[order].astype(np.int64), bound)
