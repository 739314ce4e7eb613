"""The CUDA engine between segments and between sets: spans, identities, limits; density."""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_same_scores, assert_same_table
from cuda_helpers import cloud, engine, tight  # noqa: F401

from clipscan.engine import Counts, Neighbors, as_rows, codebook, cpu, cuda, reference
from clipscan.engine.devices import Devices
from clipscan.engine.split_search import on_host

pytestmark = pytest.mark.usefixtures("device")  # of conftest.py


def test_both_sides_of_a_pair_of_segments(engine):
    x = cloud(900, 17)
    loaded = engine.load(as_rows(x), codebook.fit([as_rows(x)]))
    far = np.full(900, np.inf, np.float32)
    for a, b in (((0, 400), (400, 900)), ((100, 260), (300, 301)), ((600, 900), (0, 520))):
        first, second = engine.pairs(loaded, a, b, 5, far[slice(*a)], far[slice(*b)], 1 << 24, Counts())
        for own, other, found in ((a, b, first), (b, a, second)):
            k = min(5, other[1] - other[0])
            distance, index = reference.knn(x[slice(*own)], x[slice(*other)], k)
            found = on_host(found)
            table = Neighbors(found[0][:, :k], found[1][:, :k] - other[0])
            assert_same_table(table, x[slice(*own)], x[slice(*other)], distance, index)
            assert (found[1][:, k:] == -1).all() and np.isinf(found[0][:, k:]).all()


def test_a_known_limit_keeps_who_is_as_far(engine):
    x = cloud(300, 11)
    loaded = engine.load(as_rows(x), codebook.fit([as_rows(x)]))
    distance, index = cpu.within(as_rows(x), 4, 1, 1 << 30, Counts())
    limit = np.ascontiguousarray(distance[:, -1])
    counts, free = Counts(), Counts()
    found, nothing = engine.pairs(loaded, (0, 300), (0, 300), 4, limit, limit, 1 << 24, counts)
    engine.pairs(loaded, (0, 300), (0, 300), 4, limit + np.inf, limit + np.inf, 1 << 24, free)
    assert nothing is None
    found = on_host(found)
    assert np.array_equal(found[1], index) and np.array_equal(found[0], distance)
    assert counts.passed < free.passed


def test_spans_and_identities(engine):
    x, y = cloud(90, 14), cloud(700, 14, 1)
    ids, others = np.arange(90) % 7, np.arange(700) % 7
    spans = [(0, 130), (0, 512), (5, 700), (512, 700)]
    table = Devices([engine]).between(as_rows(x), as_rows(y), 6, ids, others, spans, 1, None, Counts())
    right = cpu.between(as_rows(x), as_rows(y), 6, ids, others, spans, 1, 1 << 30, Counts())
    for (distance, index), (cpu_distance, cpu_index) in zip(table, right, strict=True):
        assert np.array_equal(index, cpu_index) and np.array_equal(distance, cpu_distance)


def test_too_few_allowed_rows_leave_nobody(engine):
    x = cloud(20, 3)
    [(distance, index)] = Devices([engine]).between(
        as_rows(x),
        as_rows(x[:4]),
        4,
        np.zeros(20, np.int64),
        np.array([0, 0, 0, 1]),
        [(0, 4)],
        1,
        None,
        Counts(),
    )
    assert index.tolist() == [[3, -1, -1, -1]] * 20
    assert np.isinf(distance[:, 1:]).all()


def test_queries_that_all_references_are_near(engine):
    x = tight(1200, 6)
    [(distance, index)] = Devices([engine]).between(
        as_rows(x[:300]), as_rows(x), 5, None, None, [(0, 1200)], 1, None, Counts()
    )
    right = cpu.between(as_rows(x[:300]), as_rows(x), 5, None, None, [(0, 1200)], 1, 1 << 30, Counts())[0]
    assert np.array_equal(index, right[1]) and np.array_equal(distance, right[0])


# ---- density


def test_density_is_that_of_the_definition(device):
    x = np.repeat(np.round(cloud(120, 5) * 2) / 2, 2, axis=0)
    distance, index = cpu.within(as_rows(x), 7, 1, 1 << 30, Counts())
    ours = cuda.CudaEngine().density(distance, index, None, 1)
    assert_same_scores(ours, reference.density(distance, index), 1e-12)
    other = cpu.between(as_rows(x[:50]), as_rows(x), 7, None, None, [(0, len(x))], 1, 1 << 30, Counts())[0]
    assert_same_scores(cuda.CudaEngine().density(*other, ours, 1), reference.density(*other, ours), 1e-12)
