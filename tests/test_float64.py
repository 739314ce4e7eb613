"""The search by float64 distances: right where float32 cannot tell rows apart, for sizes of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from clipscan.engine import as_rows, float64, reference, search
from clipscan.engine.float64 import search_float64
from clipscan.errors import InputError
from clipscan.scores.fitted_density import FittedDensity

RNG = np.random.default_rng(0)
TABLES = {
    "gaussian": RNG.normal(size=(300, 7)),
    "far from 0": 2.0**30 + RNG.normal(size=(300, 3)),
    "tiny": 2.0**-700 * RNG.normal(size=(200, 4)),
    "huge": 2.0**600 * RNG.normal(size=(200, 4)),
    "ties": RNG.integers(0, 3, (300, 4)).astype(float),
    "copies": np.repeat(RNG.normal(size=(20, 3)), 15, axis=0),
    "all equal": np.ones((50, 3)),
    "two clusters, each a point in float32": np.repeat([[1.0], [2.0]], 60, axis=0)
    + 1e-12 * RNG.normal(size=(120, 3)),
    "one column": RNG.normal(size=(100, 1)),
}  # fmt: skip


@pytest.mark.parametrize("entries", [float64.TABLE_ENTRIES, 100])
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_definition_in_float64(name, entries, monkeypatch):
    monkeypatch.setattr(float64, "TABLE_ENTRIES", entries)
    x = TABLES[name]
    unit = 2.0 ** -np.frexp(np.abs(x).max())[1]  # of distances whose squares a float64 holds
    own = np.arange(len(x))
    for found, (distance, index) in (
        (search_float64(x, None, 5), reference.knn(x * unit, x * unit, 5, own, own)),
        (search_float64(x[::7], x, 5), reference.knn(x[::7] * unit, x * unit, 5)),
    ):
        assert found.distance.dtype == np.float64 and (found.index == index).all()
        np.testing.assert_allclose(found.distance * unit, distance, rtol=1e-14, atol=0)


def with_rows(*values: float, n: int = 300, d: int = 4) -> np.ndarray:
    """Normal rows, among them some at `values` along the first axis."""
    x = np.random.default_rng(1).normal(size=(n, d))
    for at, value in enumerate(values):
        x[7 * at, 0] = value
    return x


MIXED = {
    "one of 1e200": with_rows(1e200),
    "two of 1e200": with_rows(1e200, 1.5e200),
    "one of the largest": with_rows(1.7e308, -1.7e308),
    "one of 1e12": with_rows(1e12),
    "one of 1e5": with_rows(1e5, -1e5),
    "as many far as may be, and one more": with_rows(*(10.0**i for i in range(10, 32)), n=250),
    "half of 1e200": np.concatenate([with_rows(), 1e200 * with_rows(n=299)]),
    "sizes of every kind": with_rows() * 10.0 ** np.random.default_rng(2).integers(-150, 150, (300, 1)),
    "most at one place": np.concatenate([np.zeros((200, 4)), with_rows(1e200, n=100)]),
    "tiny beside one of 1": np.concatenate([1e-200 * with_rows(), np.ones((1, 4))]),
    "all near the largest": 1e307 * with_rows(),
    "three": np.array([[0.0, 1.0], [1e200, 0.0], [0.0, 1.5]]),
}


def longdouble_knn(x: np.ndarray, y: np.ndarray, k: int, itself: bool) -> tuple[np.ndarray, np.ndarray]:
    distance, index = np.empty((len(x), k)), np.empty((len(x), k), np.int64)
    for i, row in enumerate(x):
        difference = (y.astype(np.longdouble) - row.astype(np.longdouble)) / 4
        largest = np.abs(difference).max(axis=1)
        unit = np.where(largest > 0, largest, 1)
        with np.errstate(over="ignore"):
            length = np.sqrt(((difference / unit[:, None]) ** 2).sum(axis=1)) * largest * 4
            length = length.astype(np.float64)
        order = np.lexsort((np.arange(len(y)), length))
        order = (order[order != i] if itself else order)[:k]
        distance[i], index[i] = length[order], order
    return distance, index


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", MIXED)
def test_a_few_huge_rows_do_not_change_the_neighbours_of_others(name):
    x = MIXED[name]
    k = min(5, len(x) - 1)
    for found, others, itself in (
        (search_float64(x, None, k), x, True),
        (search_float64(x, x[::-1].copy(), k), x[::-1], False),
        (search_float64(x[:40], x[40:], k) if len(x) > 45 else None, x[40:], False),
    ):
        if found is not None:
            queries = x[: len(found.index)]
            distance, index = longdouble_knn(queries, others, k, itself)
            np.testing.assert_allclose(found.distance, distance, rtol=1e-14, atol=0)
            for row in np.flatnonzero((found.index != index).any(axis=1)):  # ties but for the last digit
                to, number = longdouble_knn(queries[row][None], others, len(others), False)
                place = np.argsort(number[0])[found.index[row]]
                np.testing.assert_allclose(to[0, place], distance[row], rtol=4e-15, atol=0)


def test_rows_given_as_their_own_reference_have_themselves_as_neighbours():
    x = with_rows()
    assert (search_float64(x, x, 3).index[:, 0] == np.arange(len(x))).all()


@pytest.mark.parametrize("value", [1e5, 1e12, 1e200])
def test_an_outlier_leaves_the_others_to_the_float32_search(value, monkeypatch):
    whole = []
    measure_all = float64._measure_all
    monkeypatch.setattr(float64, "_measure_all", lambda *a: whole.extend(a[3].tolist()) or measure_all(*a))
    search_float64(with_rows(value), None, 5)
    assert whole == [0], "only the outlier itself is measured against all"


def test_float32_alone_would_not_do():
    x = TABLES["two clusters, each a point in float32"]
    index = search(as_rows(x.astype(np.float32)), None, 5).index
    assert (index != search_float64(x, None, 5).index).any(axis=1).mean() > 0.5


@pytest.mark.parametrize("far", [1e39, 1e200])
def test_densities_are_finite_beside_a_row_that_float32_cannot_hold(far):
    x = with_rows(far)
    found = FittedDensity(x, 5)
    others = FittedDensity(np.delete(x, 0, axis=0), 5)
    assert all(np.isfinite(column).all() for column in found.columns.values())
    assert found.columns["lof"].argmax() == 0 and found.columns["lof"][0] > far / 100
    np.testing.assert_allclose(found.columns["lof"][1:], others.columns["lof"], rtol=1e-5)
    np.testing.assert_allclose(found.score(x[:1] * 2)["lof"][0] / found.columns["lof"][0], 2, rtol=0.5)


def test_densities_do_not_depend_on_a_scale_near_the_largest_float64():
    x = with_rows(n=60)
    ours = FittedDensity(x * 2.0**1020, 5).columns["lof"]
    np.testing.assert_allclose(ours, FittedDensity(x, 5).columns["lof"], rtol=1e-6)


def test_a_row_further_away_than_float64_holds_is_named():
    with pytest.raises(InputError, match="row 0 has a neighbour further away"):
        FittedDensity(with_rows(1.7e308, -1.7e308), 299)
