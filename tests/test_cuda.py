"""The CUDA engine's codes and self-search, on a simulated device; on a real one where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_same_table
from cuda_helpers import KERNELS, assert_equals_the_cpu, cloud, engine, simulated, tight, within  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPES

from clipscan.engine import Counts, Neighbors, as_rows, codebook, cpu, cuda, reference
from clipscan.engine.devices import Devices
from clipscan.engine.split_search import on_host

TILE = 128

pytestmark = pytest.mark.usefixtures("device")  # of conftest.py


# ---- codes, and where they lie


def unfolded(planes):
    """[chunks, padded, 64] -> [padded, 64 chunks]: the piece p of a row lies at place p ^ (row / 2 % 4)."""
    chunks, padded, _ = planes.shape
    row, piece = np.arange(padded)[:, None], np.arange(4)[None]
    pieces = planes.reshape(chunks, padded, 4, 16)[:, row, piece ^ (row // 2 % 4)]
    return pieces.transpose(1, 0, 2, 3).reshape(padded, -1)


@pytest.mark.parametrize("d", [1, 4, 63, 64, 65, 100, 512, 768, 1030])
@pytest.mark.parametrize("shape", SHAPES[:5])
def test_codes_are_those_of_the_definition_and_lie_as_the_kernels_read_them(device, d, shape):
    x = shape(np.random.default_rng(d), 150, d).astype(np.float32)
    book = codebook.fit([as_rows(x)])
    planes, norm, error, tile_error = cuda.CudaEngine().load(as_rows(x), book).planes()
    codes, exact = reference.encode(x, book)
    whole = unfolded(planes)
    assert np.array_equal(whole[:150, : book.width], codes)
    assert not whole[:, book.width :].any() and not whole[150:].any()
    assert np.array_equal(norm, (codes.astype(np.int64) ** 2).sum(axis=1))
    unit = 2.0**-24
    length = np.sqrt(norm) + error
    assert (error >= exact).all()
    assert (error <= exact * (1 + (d + 64) * unit) + 100 * unit * length).all()  # the allowance for float32
    assert tile_error.tolist() == [error[:128].max(), error[128:].max()]


def test_selected_rows_bring_their_codes(device):
    x = cloud(300, 70)
    loaded = cuda.CudaEngine().load(as_rows(x), codebook.fit([as_rows(x)]))
    positions = np.flatnonzero(np.random.default_rng(0).random(300) < 0.5)
    some = cuda.CudaEngine().select(loaded, positions)
    (all_codes, norm, error, _), (codes, *rest, tile_error) = loaded.planes(), some.planes()
    assert np.array_equal(unfolded(codes)[: len(positions)], unfolded(all_codes)[positions])
    assert np.array_equal(rest[0], norm[positions]) and np.array_equal(rest[1], error[positions])
    assert tile_error[0] == error[positions[:128]].max()


# ---- self-search


@pytest.mark.parametrize(
    ("n", "d", "k"),
    [
        (2, 1, 1),
        (TILE - 1, 3, 2),
        (TILE, 64, 5),
        (TILE + 1, 65, 5),
        (2 * TILE + 1, 16, 16),
        (640, 24, 7),
        (70, 8, 69),
    ],
)
def test_tables_equal_those_of_the_cpu_bit_by_bit(engine, n, d, k):
    x = cloud(n, d, n)
    assert_equals_the_cpu(within(engine, x, k), x, k)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("d", [5, 64])
def test_awkward_clouds(engine, shape, d):
    x = shape(np.random.default_rng(d), 150, d).astype(np.float32)
    table = within(engine, x, 6)
    assert_equals_the_cpu(table, x, 6)
    own = np.arange(len(x))
    assert_same_table(table, x, x, *reference.knn(x, x, 6, own, own))


@pytest.mark.parametrize("d", [300, 768, 1024, 4096])
def test_wide_rows(engine, d):
    x = cloud(140, d, d)
    assert_equals_the_cpu(within(engine, x, 4), x, 4)


@settings(deadline=None, max_examples=15)
@given(
    n=st.integers(2, 300),
    d=st.integers(1, 70),
    seed=st.integers(0, 999),
    grid=st.sampled_from([0, 1, 4]),
    kernel=st.sampled_from(KERNELS),
)
def test_any_small_set(device, n, d, seed, grid, kernel):
    if kernel == "wgmma" and device.capability(0)[0] != 9:
        kernel = "mma"
    x = cloud(n, d, seed)
    if grid:
        x = np.round(x * grid) / grid  # many exact ties and copies
    k = 1 + seed % min(n - 1, 40)
    assert_equals_the_cpu(within(cuda.CudaEngine(0, kernel), x, k), x, k)


def test_rows_that_no_code_tells_apart_overflow_their_buffers_and_are_found_all_the_same(engine):
    x = tight(900, 8)
    counts = Counts()
    distance, index = Devices([engine]).within(as_rows(x), 3, 1, None, counts)
    assert_equals_the_cpu(Neighbors(distance, index), x, 3)
    assert counts.measured > 256 * len(x)  # more than a buffer holds


def test_thousands_of_copies_are_searched_once(engine):
    x = cloud(60, 12)[np.random.default_rng(1).integers(0, 60, 1500)]
    counts = Counts()
    distance, index = Devices([engine]).within(as_rows(x), 30, 1, None, counts)
    assert_equals_the_cpu(Neighbors(distance, index), x, 30)
    assert counts.measured < 60 * 60


def test_the_order_of_threads_and_blocks_does_not_show(engine, simulated):
    x = np.round(cloud(700, 70) * 2) / 2
    right = cpu.within(as_rows(x), 6, 1, 1 << 30, Counts())
    for seed in range(1, 9):
        simulated.setenv("CLIPSCAN_SIM_SEED", str(seed))
        table = within(engine, x, 6)
        assert np.array_equal(table.index, right[1]) and np.array_equal(table.distance, right[0]), seed


def test_many_neighbours(engine):
    x = cloud(700, 6)
    assert_equals_the_cpu(within(engine, x, 300), x, 300)
    assert cuda.LIMITS.refusal(1025, 6)


def test_limits_that_are_too_tight_would_be_noticed(engine):
    x = cloud(300, 24)
    loaded = engine.load(as_rows(x), codebook.fit([as_rows(x)]))
    distance, index = cpu.within(as_rows(x), 4, 1, 1 << 30, Counts())
    limit = np.ascontiguousarray(0.9 * distance[:, -1])
    found, _ = engine.pairs(loaded, (0, 300), (0, 300), 4, limit, limit, 1 << 24, Counts())
    assert not np.array_equal(on_host(found)[1], index)
