"""Several devices give the bits of one. CPU engines stand for devices."""

from types import SimpleNamespace

import numpy as np
import pytest
from device_helpers import (
    AWKWARD,
    MEMORY,
    ROW_MEMORY,
    CpuEngine,
    assert_equal,
    crew,
    first_rows,
    one,
    rows,
    within,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPES

from clipscan import _core
from clipscan.engine import Counts, as_rows, cpu


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", AWKWARD)
def test_any_number_of_devices_gives_the_table_of_the_cpu(name, count):
    x, k = AWKWARD[name]
    devices, _ = crew(count, segment_rows=1)
    assert_equal(within(devices, x, k), one(x, k))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_cloud_on_two_devices(shape):
    x = shape(np.random.default_rng(3), 120, 16).astype(np.float32)
    assert_equal(within(crew(2)[0], x, 6), one(x, 6))


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(2, 40),
    k=st.integers(1, 8),
    seed=st.integers(0, 999),
    grid=st.sampled_from([0, 1, 2]),
    count=st.integers(1, 3),
    segment_rows=st.integers(1, 6),
    at_work=st.integers(4, 60),
)
def test_any_rows_segments_and_devices(n, k, seed, grid, count, segment_rows, at_work):
    x, k = rows(n, 3, seed), min(k, n - 1)
    x = np.round(x * grid) / grid if grid else x
    assert_equal(within(crew(count, segment_rows)[0], x, k, ROW_MEMORY * at_work), one(x, k))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 5, 200])
def test_queries_against_spans_give_the_tables_of_the_cpu(n, count):
    x, y = rows(n), np.round(rows(150, seed=1), 1)
    ids, owners = np.arange(n), np.arange(150) % 20
    spans = [(0, 60), (0, 150), (30, 90)]
    for memory in (MEMORY, ROW_MEMORY * 7):
        ours, theirs = (
            back.between(as_rows(x), as_rows(y), 6, ids, owners, spans, 2, memory, Counts())
            for back in (crew(count)[0], cpu)
        )
        for table, expected in zip(ours, theirs, strict=True):
            assert_equal(table, expected)


def test_queries_without_identities():
    x, y = as_rows(rows(70)), as_rows(rows(90, seed=1))
    ours, theirs = (
        back.between(x, y, 6, None, None, [(0, 90)], 2, MEMORY, Counts()) for back in (crew(2)[0], cpu)
    )
    assert_equal(ours[0], theirs[0])


def test_what_is_counted_is_counted_once():
    x = rows(80)
    total = Counts()
    devices, engines = crew(2)
    devices.within(as_rows(x), 4, 2, MEMORY, total)
    alone = Counts()
    for engine in engines:
        for a, b, limit_a, limit_b, _ in list(engine.asked):
            CpuEngine().pairs(SimpleNamespace(rows=as_rows(x)), a, b, 4, limit_a, limit_b, MEMORY, alone)
    assert total == alone


# ---- copies


def expanded(distance, index, first_of):
    """The definition of expand_copies: all copies of all neighbours, and of the row itself, in order."""
    n, k = len(first_of), distance.shape[1]
    firsts = np.unique(first_of)
    out_distance, out_index = np.full((n, k), np.inf, np.float32), np.full((n, k), -1)
    for i in range(n):
        p = np.searchsorted(firsts, first_of[i])
        near = [(np.float32(0), first_of[i])] + [
            (r, firsts[q]) for r, q in zip(distance[p], index[p], strict=True) if q >= 0
        ]
        all_of = sorted((r, j) for r, first in near for j in np.flatnonzero(first_of == first) if j != i)[:k]
        for rank, (r, j) in enumerate(all_of):
            out_distance[i, rank], out_index[i, rank] = r, j
    return out_distance, out_index


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40), points=st.integers(1, 40), k=st.integers(1, 9), seed=st.integers(0, 999))
def test_copies_are_listed_as_defined(n, points, k, seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, (points, 2)).astype(np.float32)
    x = points[rng.integers(0, len(points), n)]
    first_of = first_rows(x)
    first_of = np.arange(n, dtype=np.uint32) if first_of is None else first_of
    different = as_rows(x[np.unique(first_of)])
    table = cpu.within(different, k, 1, MEMORY, Counts())
    for threads in (1, 3):
        assert_equal(_core.expand_copies(*table, first_of, threads), expanded(*table, first_of))
    assert_equal(_core.expand_copies(*table, first_of), one(x, k))
