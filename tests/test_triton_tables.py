"""The Triton back-end's tables are the CPU's, bit for bit: codes, shapes, limits, two sides, scores."""

import numpy as np
import pytest
from compare import assert_same_scores, assert_same_table
from shapes import SHAPES
from triton_helpers import (
    MEMORY,
    among,
    another,
    assert_equal,
    engine,  # noqa: F401
    kernels,
    load,
    near_copies,
    on_cpu,
    poison,  # noqa: F401
    rows,
    runs,
)

from clipscan.engine import Counts, Neighbors, as_rows, codebook, cpu, devices, reference, triton

pytest.importorskip("torch")


def assert_same_as_float64(table, x, k):
    ids = np.arange(len(x))
    assert_same_table(Neighbors(*table), x, x, *reference.knn(x, x, k, ids, ids))


# ---- codes


@runs
@pytest.mark.parametrize("d", [1, 3, 20, 64, 100, 513, 4096])
def test_codes_are_those_of_the_definition(engine, d):
    for shape in SHAPES:
        x = shape(np.random.default_rng(d), 23, d).astype(np.float32)
        book = codebook.fit([as_rows(x)])
        codes, error = reference.encode(x, book)
        held = engine.load(as_rows(x), book).codes
        code = held.code.cpu().numpy()
        assert (code[:23, : book.width] == codes).all(), shape
        assert not code[23:].any() and not code[:, book.width :].any()
        assert (held.norm.cpu().numpy() == (codes.astype(np.int64) ** 2).sum(axis=1)).all()
        bound, length = held.error.cpu().numpy(), np.linalg.norm(codes, axis=1) + error
        assert (bound >= error * (1 - 1e-6)).all(), shape
        assert (bound <= error * (1 + (d + 64) * 2.0**-24) + 100 * 2.0**-24 * length).all(), shape


# ---- tables


@runs
@pytest.mark.parametrize("n", [2, 63, 64, 65, 129])
def test_self_search_around_tile_edges(engine, n):
    x, k = rows(n, 3, seed=n), min(5, n - 1)
    table = among(engine, x, k)
    assert_equal(table, on_cpu(x, k))
    assert_same_as_float64(table, x, k)


@runs
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_cloud(engine, shape):
    x = shape(np.random.default_rng(24), 100, 24).astype(np.float32)
    table = among(engine, x, 6)
    assert_equal(table, on_cpu(x, 6))
    assert_same_as_float64(table, x, 6)


@runs
@pytest.mark.parametrize("d", [1, 513, 4096])
def test_narrow_and_wide_rows(engine, d):
    x = np.round(rows(40, d), 1)  # with ties
    assert_equal(among(engine, x, 7), on_cpu(x, 7))


@runs
def test_the_tiles_of_a_gpu(engine):
    hopper = kernels("sizes").HOPPER
    large = another(
        engine, sizes=engine.sizes._replace(tile=hopper.tile, part=hopper.part, depth=hopper.depth)
    )
    x = rows(290, 70)
    assert_equal(among(large, x, 4), on_cpu(x, 4))


@runs
def test_more_neighbours_than_rows_leaves_nobody(engine):
    x = rows(12, 5)
    distance, index = among(engine, x, 15)
    assert_equal((distance[:, :11], index[:, :11]), on_cpu(x, 11))
    assert np.isinf(distance[:, 11:]).all() and (index[:, 11:] == -1).all()


# ---- limits from outside


@runs
def test_a_limit_that_is_reached_keeps_ties(engine):
    x = np.round(rows(110, 4), 1)
    expected = on_cpu(x, 6)
    counts, free = Counts(), Counts()
    among(engine, x, 6, counts=free)
    assert_equal(among(engine, x, 6, limit=expected[0][:, -1], counts=counts), expected)
    assert counts.passed < free.passed


@runs
def test_a_limit_too_tight_loses_neighbours_and_that_is_noticed(engine):
    x = rows(110, 8)
    limit = on_cpu(x, 6)[0][:, -1] / 2
    table = among(engine, x, 6, limit=limit)
    with pytest.raises(AssertionError):
        assert_same_as_float64(table, x, 6)
    index = table[1]
    nearer = on_cpu(x, 6)[0] <= limit[:, None]
    assert (index[nearer] == on_cpu(x, 6)[1][nearer]).all(), "who is within the limit is there"


# ---- two sides


@runs
@pytest.mark.parametrize(
    ("a", "b", "memory"), [((3, 130), (140, 271), MEMORY), ((0, 40), (60, 260), 1), ((66, 200), (0, 66), 1)]
)
def test_pairs_serve_both_sides_as_two_searches_would(engine, a, b, memory):
    x = np.concatenate([near_copies(210, 7), rows(61, 7, 3)]) if memory == 1 else rows(271, 7)
    held = load(engine, x)
    both = engine.pairs(held, a, b, 4, None, None, memory, Counts())
    for table, own, other in zip(both, (a, b), (b, a), strict=True):
        one_sided = engine.between(held, held, own, 4, None, None, [other], memory, Counts())[0]
        assert (table[0] == one_sided[0]).all() and (table[1] == one_sided[1] + other[0]).all()
        parts = as_rows(x[slice(*own)]), as_rows(x[slice(*other)])
        assert_equal(one_sided, cpu.between(*parts, 4, None, None, [(0, parts[1].n)], 2, MEMORY, Counts())[0])


@runs
def test_segments_and_devices_do_not_show_in_a_table(engine, monkeypatch):
    monkeypatch.setattr(devices, "SEGMENTS", 1)
    x = np.round(rows(120, 5), 1)
    x[100:110] = x[:10]  # copies
    other = another(engine)
    other.name = "another"
    several = devices.Devices([engine, other], triton.LIMITS, segment_rows=60)
    assert_equal(several.within(as_rows(x), 6, 2, None, Counts()), on_cpu(x, 6))
    assert len(several.schedule) == 3, "two segments: each among itself, and the pair"


@runs
def test_spans_identities_and_ranges_of_queries(engine):
    x, y = rows(60, 9), np.round(rows(200, 9, 1), 1)
    y[:180] += np.repeat(x, 3, axis=0) - np.float32(0.9) * y[:180]  # near rows of the same identity
    ids, owners = np.arange(60), np.arange(200) // 3
    spans = [(0, 20), (0, 130), (0, 131), (7, 9), (50, 200)]
    sets = as_rows(x), as_rows(y)
    book = codebook.fit(sets)
    held = [engine.load(part, book) for part in sets]
    tables = engine.between(*held, (10, 50), 6, ids, owners, spans, MEMORY, Counts())
    expected = cpu.between(*sets, 6, ids, owners, spans, 2, MEMORY, Counts())
    for found, whole in zip(tables, expected, strict=True):
        assert_equal(found, [part[10:50] for part in whole])


# ---- scores


@runs
def test_scores_are_those_of_the_definition(engine, monkeypatch):
    monkeypatch.setattr(kernels("density"), "BLOCK", 200)
    x = np.concatenate(
        [np.round(rows(80, 3)), np.zeros((9, 3), np.float32)]
    )  # points with more than k copies
    for k in (1, 7):
        table = on_cpu(x, k)
        exact = reference.density(*table)
        assert_same_scores(engine.density(*table), exact, rtol=1e-12)
        sample = cpu.between(
            as_rows(rows(30, 3, 1)), as_rows(x), k, None, None, [(0, 89)], 2, MEMORY, Counts()
        )[0]
        sample[0][4, k - 1 :], sample[1][4, k - 1 :] = np.inf, -1  # nobody
        assert_same_scores(engine.density(*sample, exact), reference.density(*sample, exact), rtol=1e-12)


@runs
def test_mean_cosine_is_that_of_the_definition(engine):
    a, b = rows(50, 8), rows(40, 8, 1)
    b[3] = 0
    index = np.random.default_rng(2).integers(-1, 40, (50, 5))
    index[7] = -1
    found = engine.mean_cosine(a, b, index)
    assert np.abs(found - reference.mean_cosine(a, b, index)).max() < 1e-14
