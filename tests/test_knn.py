"""The search equals the float64 definition, on the shapes that broke other people's kernels."""

import numpy as np
import pytest
from compare import assert_same_table
from hypothesis import given, settings
from hypothesis import strategies as st
from knn_helpers import MEMORY, exact, rows
from shapes import SHAPES

from clipscan import _core
from clipscan.engine import Counts, Neighbors, as_rows, cpu, knn, reference, search_spans

KERNELS = [*_core.instruction_sets(), "amx_plain"]  # the last: the AMX kernel's source, its tiles arrays


# A register tile holds 4, 6, 12 or 32 queries and 8, 16 or 32 reference rows; a block 96 to 384 rows.
@pytest.mark.parametrize("n", [2, 11, 12, 13, 31, 32, 33, 63, 64, 65, 95, 96, 97, 383, 384, 385, 800, 1537])
@pytest.mark.parametrize("d", [1, 3, 16, 17, 64])
def test_self_search_equals_float64_around_tile_edges(n, d):
    x, k = rows(n, d, seed=n), min(5, n - 1)
    assert_same_table(knn(x, k=k), x, x, *exact(x, x, k))


@pytest.mark.parametrize("d", [511, 512, 513, 4096])
def test_wide_rows(d):
    x = rows(70, d)
    assert_same_table(knn(x, k=7), x, x, *exact(x, x, 7))


@pytest.mark.parametrize("d", [1, 7, 16, 33, 512])
def test_every_instruction_set_of_this_machine_reports_the_same_bits(d):
    x = as_rows(np.round(rows(130, d) * 4) / 4)  # with ties
    ids = np.arange(130)
    plain = knn(x, k=9)
    for name in KERNELS:
        among = cpu.within(x, 9, 2, MEMORY, Counts(), name)
        between = cpu.between(x, x, 9, ids, ids, [(0, 130)], 2, MEMORY, Counts(), name)[0]
        for distance, index in (among, between):
            assert (distance == plain.distance).all() and (index == plain.index).all(), name
    with pytest.raises(ValueError, match="no instruction set 'mmx'"):
        cpu.within(x, 9, 2, MEMORY, Counts(), "mmx")


def test_k_is_one_less_than_n():
    x = rows(17, 5)
    assert_same_table(knn(x, k=16), x, x, *exact(x, x, 16))


@pytest.mark.parametrize("m", [1, 15, 16, 40])
def test_a_reference_smaller_than_a_panel(m):
    x, y = rows(50, 9), rows(m, 9, seed=1)
    k = min(m, 6)
    assert_same_table(knn(x, y, k=k), x, y, *exact(x, y, k, own=False))


def test_outliers_cost_their_own_pairs_only():
    x = rows(3000, 64)
    plain, wild = Counts(), Counts()
    cpu.within(as_rows(x), 8, 2, MEMORY, plain)
    x[[5, 1700, *range(60)]] *= 1e4
    distance, index = cpu.within(as_rows(x), 8, 2, MEMORY, wild)
    few = np.array([0, 5, 6, 1699, 1700, 2999])
    ids = np.arange(3000)
    exact_few = reference.knn(x[few], x, 8, few, ids)
    assert_same_table(Neighbors(distance[few], index[few]), x[few], x, *exact_few)
    assert wild.measured < 2 * plain.measured + 2 * 61 * 3000


@pytest.mark.parametrize("d", [1, 24, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_cloud_equals_float64(shape, d):
    rng = np.random.default_rng(d)
    x, y = (shape(rng, n, d).astype(np.float32) for n in (150, 220))
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))
    assert_same_table(knn(x, y, k=6), x, y, *exact(x, y, 6, own=False))
    assert_same_table(knn(y, x, k=6), y, x, *exact(y, x, 6, own=False))


def test_queries_far_from_the_reference():
    # Captions against images: two clouds apart, as the towers of CLIP leave them.
    x, y = rows(200, 48) + 5, rows(300, 48, seed=1) - 5
    assert_same_table(knn(x, y, k=7), x, y, *exact(x, y, 7, own=False))


@settings(deadline=None, max_examples=30)
@given(
    ends=st.lists(st.integers(6, 120), min_size=1, max_size=4, unique=True),
    begin=st.integers(0, 100),
    seed=st.integers(0, 99),
    k=st.integers(1, 6),
)
def test_spans_give_the_tables_of_separate_searches(ends, begin, seed, k):
    x, y = rows(50, 10, seed), np.round(rows(220, 10, seed + 1), 1)
    ids = np.arange(50, dtype=np.int64)
    own = np.concatenate([ids, 1000 + np.arange(170)])
    spans = [(begin, begin + end) for end in ends] + [(0, 220), (begin // 2, 220)]
    tables = search_spans(as_rows(x), as_rows(y), k, ids, own, spans)
    for (first, last), table in zip(spans, tables, strict=True):
        alone = knn(x, y[first:last], k=k, query_ids=ids, reference_ids=own[first:last])
        assert (table.index == alone.index).all() and (table.distance == alone.distance).all()


def test_a_query_with_several_selves_in_the_reference():
    x, y = rows(20, 8), rows(150, 8, seed=1)
    ids, owners = np.arange(20), np.arange(150) % 20  # seven or eight rows of every identity
    assert_same_table(
        knn(x, y, k=9, query_ids=ids, reference_ids=owners), x, y, *reference.knn(x, y, 9, ids, owners)
    )


@pytest.mark.parametrize("n", [20_001])
def test_rows_of_a_large_set_equal_float64(n):
    # Several blocks, chunks and pivots; clusters so that limits tighten early, copies that are searched once.
    rng = np.random.default_rng(0)
    x = rows(200, 20, seed=1)[rng.integers(0, 200, n)] + 0.3 * rows(n, 20, seed=2)
    x[5000:5100] = x[:100]
    few = rng.choice(n, 60, replace=False)
    for k in (1, 40):
        table = knn(x, k=k)
        part = Neighbors(table.distance[few], table.index[few])
        assert_same_table(part, x[few], x, *reference.knn(x[few], x, k, few, np.arange(n)))


def test_a_zero_vector_and_a_row_far_outside():
    x = rows(200, 32)
    x[3], x[7] = 0, 1e4 * x[7]
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_extreme_scales(scale):
    x = rows(100, 24, scale=scale)
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))


def test_rows_in_a_narrow_cone_far_from_the_origin():
    # |x|^2 is a million times |x - y|^2: the expanded form alone has no correct digit here.
    x = rows(300, 64) + 1000
    assert_same_table(knn(x, k=6), x, x, *exact(x, x, 6))


def test_the_table_does_not_depend_on_threads_or_memory():
    x = rows(500, 40)
    plain = knn(x, k=9, threads=1)
    for threads, max_memory in ((2, 1 << 30), (3, 33 << 20), (5, 1)):
        table = knn(x, k=9, threads=threads, max_memory=max_memory)
        assert (table.distance == plain.distance).all() and (table.index == plain.index).all()


def test_no_row_is_its_own_neighbour():
    x = np.zeros((50, 4), np.float32)
    assert (knn(x, k=49).index != np.arange(50)[:, None]).all()


def test_identity_excludes_pairs_between_two_sets():
    x = rows(30, 6)
    ids = np.arange(30) // 3
    table = knn(x, x, k=4, query_ids=ids, reference_ids=ids)
    assert (ids[table.index] != ids[:, None]).all()


def test_too_few_allowed_rows_leave_nobody():
    x = rows(4, 3)
    table = knn(x, x, k=4, query_ids=np.zeros(4, int), reference_ids=np.array([0, 0, 0, 1]))
    assert table.index.tolist() == [[3, -1, -1, -1]] * 4
    assert np.isinf(table.distance[:, 1:]).all()


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 40),
    seed=st.integers(0, 999),
    grid=st.sampled_from([0, 1, 2, 8]),
    offset=st.sampled_from([0.0, 3.0, 500.0]),
)
def test_any_small_set_equals_float64(n, d, seed, grid, offset):
    x = rows(n, d, seed) + np.float32(offset)
    if grid:
        x = np.round(x * grid) / grid  # many exact ties and copies
    k = 1 + seed % (n - 1)
    assert_same_table(knn(x, k=k), x, x, *exact(x, x, k))
