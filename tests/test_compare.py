"""The comparators catch planted errors."""

import numpy as np
import pytest
from compare import assert_same_scores, assert_same_table

from clipscan.engine import Neighbors, reference


@pytest.fixture
def case():
    x = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    ids = np.arange(40)
    distance, index = reference.knn(x, x, 5, ids, ids)
    return x, distance, index


def test_the_exact_table_passes(case):
    x, distance, index = case
    assert_same_table(Neighbors(distance.astype(np.float32), index), x, x, distance, index)


@pytest.mark.parametrize("column", [0, 2, 4])
def test_a_wrong_neighbour_is_caught(case, column):
    x, distance, index = case
    wrong = index.copy()
    wrong[7, column] = (set(range(40)) - set(index[7])).pop()
    with pytest.raises(AssertionError, match="disagree"):
        assert_same_table(Neighbors(distance.astype(np.float32), wrong), x, x, distance, index)


def test_a_missed_neighbour_is_caught(case):
    x, distance, index = case
    ids = np.arange(40)
    further, others = reference.knn(x, x, 6, ids, ids)
    with pytest.raises(AssertionError, match="distance off"):
        assert_same_table(Neighbors(further[:, 1:].astype(np.float32), others[:, 1:]), x, x, distance, index)


def test_a_repeated_neighbour_is_caught(case):
    x, distance, index = case
    x = np.repeat(x[:20], 2, axis=0)
    ids = np.arange(40)
    distance, index = reference.knn(x, x, 5, ids, ids)
    twice = index.copy()
    twice[0, 2] = twice[0, 1]  # the copies of a row are equally far, so distances still agree
    with pytest.raises(AssertionError, match="twice"):
        assert_same_table(Neighbors(distance.astype(np.float32), twice), x, x, distance, index)


def test_a_rounding_of_one_in_ten_thousand_is_caught(case):
    x, distance, index = case
    with pytest.raises(AssertionError, match="distance off"):
        assert_same_table(Neighbors((distance * 1.0001).astype(np.float32), index), x, x, distance, index)


def test_swapped_ties_are_caught():
    x = np.zeros((4, 3), np.float32)
    ids = np.arange(4)
    distance, index = reference.knn(x, x, 3, ids, ids)
    with pytest.raises(AssertionError, match="ties"):
        assert_same_table(
            Neighbors(distance.astype(np.float32), index[:, ::-1].copy()), x, x, distance, index
        )


def test_a_score_off_by_a_thousandth_is_caught():
    with pytest.raises(AssertionError, match="dao"):
        assert_same_scores({"dao": np.array([1.0, 2.002])}, {"dao": np.array([1.0, 2.0])}, rtol=5e-4)
