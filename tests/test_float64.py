"""The search by float64 distances: right where float32 cannot tell rows apart, for sizes of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from clipscan.engine import as_rows, float64, reference, search
from clipscan.engine.float64 import search_float64

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


def test_float32_alone_would_not_do():
    x = TABLES["two clusters, each a point in float32"]
    index = search(as_rows(x.astype(np.float32)), None, 5).index
    assert (index != search_float64(x, None, 5).index).any(axis=1).mean() > 0.5
