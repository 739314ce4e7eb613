"""The CUDA engine, kernels and host side, on a simulated device; on a real one where there is one."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from compare import assert_same_scores, assert_same_table
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPES

from clipscan import _core
from clipscan.engine import Counts, Neighbors, as_rows, codebook, cpu, cuda, reference
from clipscan.engine.devices import Devices
from clipscan.engine.libraries import numpy_of
from clipscan.engine.split_search import on_host
from clipscan.errors import BackendError, DeviceLost

KERNELS = ("mma", "wgmma")
TILE = 128


pytestmark = pytest.mark.usefixtures("device")  # of conftest.py


@pytest.fixture(params=KERNELS)
def engine(request, device):
    if request.param == "wgmma" and device.capability(0)[0] != 9:
        pytest.skip("the wgmma kernel needs a device of compute capability 9.0")
    return cuda.CudaEngine(0, request.param)


def within(engine, x, k, memory=None):
    distance, index = Devices([engine]).within(as_rows(x), k, 1, memory, Counts())
    return Neighbors(numpy_of(distance), numpy_of(index))


def assert_equals_the_cpu(table, x, k):
    distance, index = cpu.within(as_rows(x), k, 1, 1 << 30, Counts())
    assert np.array_equal(table.index, index)
    assert np.array_equal(table.distance, distance)  # every bit: sums have one order


def cloud(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def tight(n, d):
    """Two clusters, so narrow that no code tells their rows apart."""
    x = np.repeat(cloud(2, d), n // 2, axis=0)
    return x + np.float32(1e-6) * cloud(len(x), d, 1)


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


def test_nothing_is_left_on_the_device(engine, simulated):
    lib = ctypes.CDLL(cuda._module().__file__)
    lib.clipscan_sim_live_bytes.restype = ctypes.c_size_t
    gc.collect()
    before = lib.clipscan_sim_live_bytes()
    x = tight(600, 8)
    within(engine, x, 3)
    within(engine, np.repeat(cloud(40, 5), 5, axis=0), 8)
    gc.collect()
    assert lib.clipscan_sim_live_bytes() == before
    assert lib.clipscan_sim_launches() > 0


def test_many_neighbours(engine):
    x = cloud(700, 6)
    assert_equals_the_cpu(within(engine, x, 300), x, 300)
    assert cuda.LIMITS.refusal(1025, 6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_types_parts_and_views(engine, dtype):
    x = cloud(150, 20).astype(dtype)
    plain = within(engine, x.astype(np.float32), 4)
    wide = np.zeros((300, 41), dtype)
    wide[::2, 1::2] = x
    for view in (x, wide[::2, 1::2], np.asfortranarray(x), x[::-1].copy()[::-1], [x[:7], x[7:]]):
        table = within(engine, view, 4)
        assert np.array_equal(table.index, plain.index) and np.array_equal(table.distance, plain.distance)


@pytest.mark.parametrize("d", [1, 3, 20, 129])
def test_rows_on_the_device_are_hashed_as_on_the_host(engine, d):
    there = on_the_device(engine, cloud(200, 6), d)
    y = there.array
    assert np.array_equal(engine.hash_rows(as_rows(there)), _core.hash_rows([y], d))


class OnDevice:
    """An array as CuPy's, on the device under test: what the engine may use of it."""

    def __init__(self, array, there):
        self.array, self.there = array, there
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __getitem__(self, rows):
        return self.array[rows]

    def __dlpack_device__(self):
        return self.there.__dlpack_device__()

    def __dlpack__(self, stream):
        return self.there.__dlpack__(stream=stream)


def on_the_device(engine, x, d):
    """Rows [n, d] on the device: the distances of a table, of which there is a copy on the host."""
    loaded, n = engine.load(as_rows(x), codebook.fit([as_rows(x)])), len(x)
    far = np.full(n, np.inf, np.float32)
    (made, _), _ = engine.pairs(loaded, (0, n), (0, n), d, far, far, 1 << 24, Counts())
    return OnDevice(made.numpy(), made)


def test_rows_on_the_device_are_read_there_and_their_table_stays(engine):
    there = on_the_device(engine, cloud(300, 12), 20)
    distance, index = Devices([engine]).within(as_rows(there), 7, 1, None, Counts())
    assert not isinstance(distance, np.ndarray)
    assert index.__dlpack_device__() == there.__dlpack_device__()
    assert_equals_the_cpu(Neighbors(distance.numpy(), index.numpy()), there.array, 7)


def test_originals_may_stay_on_the_host(engine):
    engine.room_for_rows = 0
    for x, k in ((cloud(300, 33), 9), (tight(600, 8), 3), (np.repeat(cloud(40, 5), 5, axis=0), 8)):
        assert_equals_the_cpu(within(engine, x, k), x, k)


def test_a_small_memory_only_takes_longer(engine):
    x = cloud(500, 10)
    plain = within(engine, x, 5)
    for memory in (1, 1 << 16):
        table = within(engine, x, 5, memory)
        assert np.array_equal(table.index, plain.index)


def test_several_devices_give_the_table_of_one(device):
    x = np.round(cloud(700, 9) * 4) / 4
    engines = [cuda.CudaEngine(n % device.device_count()) for n in (0, 1)]
    engines[1].name = "another"
    distance, index = Devices(engines, segment_rows=40).within(as_rows(x), 6, 1, None, Counts())
    assert_equals_the_cpu(Neighbors(distance, index), x, 6)


# ---- one segment against another, one set against another


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


def test_a_table_on_the_device_is_read_there(engine):
    x = cloud(200, 6)
    loaded = engine.load(as_rows(x), codebook.fit([as_rows(x)]))
    far = np.full(200, np.inf, np.float32)
    table, _ = engine.pairs(loaded, (0, 200), (0, 200), 9, far, far, 1 << 24, Counts())
    ours = engine.density(*table, None, 1)
    assert_same_scores(ours, engine.density(*on_host(table), None, 1), 0)


# ---- what may go wrong


@pytest.fixture
def simulated(device, monkeypatch):
    if device.__name__ != "_cuda_sim":
        pytest.skip("only the simulated device fails on request")
    return monkeypatch


def test_a_device_that_fails_leaves_its_work_to_another(simulated):
    x = cloud(400, 8)
    engines = [cuda.CudaEngine(0), cuda.CudaEngine(1)]
    simulated.setenv("CLIPSCAN_SIM_FAIL", "60")
    devices = Devices(engines, segment_rows=20)
    distance, index = devices.within(as_rows(x), 5, 1, None, Counts())
    assert len(devices._alive()) == 1
    assert_equals_the_cpu(Neighbors(distance, index), x, 5)


def test_a_failure_names_the_device_and_what_it_did(simulated):
    engine = cuda.CudaEngine(0)
    simulated.setenv("CLIPSCAN_SIM_FAIL", "9")
    with pytest.raises(DeviceLost, match="cuda:0"):
        within(engine, cloud(300, 8), 4)


def test_too_little_memory_is_said_with_what_was_asked_for(simulated):
    engine = cuda.CudaEngine(0)
    simulated.setenv("CLIPSCAN_SIM_MEMORY", str(1 << 16))
    with pytest.raises(BackendError, match=r"allocating \d+ bytes.*max_memory"):
        within(engine, cloud(3000, 64), 4)


def test_an_absent_module_says_why(monkeypatch):
    def missing():
        raise ImportError("no module")

    monkeypatch.setattr(cuda, "_module", missing)
    assert "CUDA compiler" in cuda.available()
    with pytest.raises(BackendError, match="back-end 'cuda' was left out"):
        cuda.engines()


def test_a_device_is_named_or_refused(device):
    assert [engine.name for engine in cuda.engines(["cuda:0"])] == ["cuda:0"]
    with pytest.raises(BackendError, match="no device cuda:99"):
        cuda.engines(["cuda:99"])


def test_limits_that_are_too_tight_would_be_noticed(engine):
    x = cloud(300, 24)
    loaded = engine.load(as_rows(x), codebook.fit([as_rows(x)]))
    distance, index = cpu.within(as_rows(x), 4, 1, 1 << 30, Counts())
    limit = np.ascontiguousarray(0.9 * distance[:, -1])
    found, _ = engine.pairs(loaded, (0, 300), (0, 300), 4, limit, limit, 1 << 24, Counts())
    assert not np.array_equal(on_host(found)[1], index)
