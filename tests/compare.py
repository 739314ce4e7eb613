"""Comparators for neighbour tables. tests/test_compare.py plants errors to see that they catch them."""

from __future__ import annotations

import numpy as np

from clipscan.engine import Neighbors

UNIT = 2.0**-24  # float32 rounding


def assert_same_table(table: Neighbors, queries, reference, exact_distance, exact_index) -> None:
    """`table` equals the float64 table up to ties: the same distances within float32 rounding of the
    direct form, and indices that differ only among distances that rounding cannot tell apart."""
    queries, reference = np.asarray(queries, np.float64), np.asarray(reference, np.float64)
    d = queries.shape[1]
    distance, index = np.asarray(table.distance), np.asarray(table.index)
    assert distance.shape == exact_distance.shape, "shape"
    nobody = exact_index < 0
    assert (index < 0).tolist() == nobody.tolist(), "nobody stands elsewhere"
    assert np.isinf(distance[nobody]).all(), "nobody has a distance"

    # (d + 4) roundings in |x - y|^2, half of that in its root; FLT_MIN-sized products underflow
    tolerance = (d + 4) * UNIT * np.where(nobody, 0, exact_distance) + d * 1.2e-19
    error = np.abs(np.where(nobody, 0, distance) - np.where(nobody, 0, exact_distance))
    assert (error <= tolerance).all(), f"distance off by {(error / tolerance).max():.1f} tolerances"

    for row, (found, far) in enumerate(zip(index, distance, strict=True)):
        there = found >= 0
        assert len(set(found[there])) == there.sum(), f"row {row} lists a neighbour twice"
        truly = np.sqrt(((queries[row] - reference[found[there]]) ** 2).sum(axis=1))
        assert (np.abs(truly - far[there]) <= tolerance[row][there]).all(), (
            f"row {row}: index and distance disagree"
        )
    pairs = list(
        zip(
            distance[:, :-1].ravel(),
            distance[:, 1:].ravel(),
            index[:, :-1].ravel(),
            index[:, 1:].ravel(),
            strict=True,
        )
    )
    assert all(a <= b for a, b, _, _ in pairs), "distances do not ascend"
    assert all(i < j for a, b, i, j in pairs if a == b and j >= 0), "ties do not ascend by index"


def assert_same_scores(ours, exact, rtol: float) -> None:
    """Each column within a relative tolerance, which the caller measures or derives."""
    assert ours.keys() == exact.keys()
    for name in exact:
        a, b = np.asarray(ours[name], np.float64), np.asarray(exact[name], np.float64)
        finite = np.isfinite(b)
        assert (np.isfinite(a) == finite).all(), f"{name}: finite elsewhere"
        off = np.abs(a - b)[finite] / np.maximum(np.abs(b[finite]), 0.1)  # logDAO passes through 0
        assert (off <= rtol).all(), f"{name}: off by {off.max():.2e}"
