"""Copies and rows that are equally far: all measured, the lowest numbers listed."""

import numpy as np
import pytest
from compare import assert_same_table
from knn_helpers import MEMORY, exact, rows

from clipscan.engine import Counts, Neighbors, as_rows, cpu, knn


def test_all_rows_equal_lists_the_lowest_other_indices():
    x = np.ones((300, 24), np.float32)
    table = knn(x, k=8)
    assert (table.distance == 0).all()
    assert table.index[0].tolist() == list(range(1, 9))
    assert table.index[299].tolist() == list(range(8))


def test_every_row_twice_finds_its_copy_first():
    x = np.repeat(rows(150, 20), 2, axis=0)
    table = knn(x, k=5)
    assert (table.distance[:, 0] == 0).all()
    assert (table.index[:, 0] == np.arange(300) ^ 1).all()
    assert_same_table(table, x, x, *exact(x, x, 5))


def test_thousands_of_copies_of_one_picture():
    x = np.concatenate([np.repeat(rows(1, 16), 2000, axis=0), rows(100, 16, seed=1)])
    table = knn(x, k=4)
    assert (table.distance[:2000] == 0).all()
    assert_same_table(
        Neighbors(table.distance[2000:], table.index[2000:]),
        x[2000:],
        x,
        *[part[2000:] for part in exact(x, x, 4)],
    )


def test_the_lowest_of_many_copies_are_listed_among_equally_far_rows():
    # Four groups of copies, all equally far from each other; indices of the groups interleave.
    x = np.tile(np.eye(4, 5, dtype=np.float32), (30, 1))
    table = knn(x, k=60)
    assert_same_table(table, x, x, *exact(x, x, 60))
    assert table.index[1, :32].tolist() == [i for i in range(120) if i % 4 == 1 and i != 1] + [0, 2, 3]


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_copies_near_copies_and_single_rows_together(k):
    rng = np.random.default_rng(k)
    base = rows(40, 24, seed=k)
    near = base[:10] + np.float32(1e-6) * rng.standard_normal((10, 24)).astype(np.float32)
    x = np.concatenate([np.repeat(base, rng.integers(1, 7, 40), axis=0), near])
    x = x[rng.permutation(len(x))]
    assert_same_table(knn(x, k=k), x, x, *exact(x, x, k))


def test_minus_zero_is_zero_among_copies():
    x = np.zeros((20, 6), np.float32)
    x[::2] = -0.0
    assert knn(x, k=3).index[7].tolist() == [0, 1, 2]


def equidistant(n):
    """n rows, each as far from every other: no bound can tell any two pairs apart."""
    return np.eye(n, dtype=np.float32)


def test_equally_far_rows_are_all_measured_and_listed_in_order():
    x = equidistant(700)
    counts = Counts()
    distance, index = cpu.within(as_rows(x), 5, 2, MEMORY, counts)
    assert (distance == np.sqrt(np.float32(2))).all()
    assert index[0].tolist() == [1, 2, 3, 4, 5]
    assert index[699].tolist() == [0, 1, 2, 3, 4]
    assert counts.measured >= 600 * 700, "this input is meant to pass the filter"


def test_equally_far_rows_fit_the_smallest_memory():
    x = equidistant(600)
    table, small = knn(x, k=7), knn(x, k=7, max_memory=1)
    assert (table.distance == small.distance).all() and (table.index == small.index).all()


def test_a_filter_that_rules_nothing_out_between_two_sets():
    x = equidistant(500)
    table = knn(x[:100], x[100:], k=6)
    assert (table.index == np.arange(6)).all() and (table.distance == np.sqrt(np.float32(2))).all()
