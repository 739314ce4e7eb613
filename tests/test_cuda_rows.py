"""Rows and tables of the CUDA engine: types, views, on the device or the host, several devices."""

from __future__ import annotations

import numpy as np
import pytest
from compare import assert_same_scores
from cuda_helpers import assert_equals_the_cpu, cloud, engine, tight, within  # noqa: F401

from clipscan import _core
from clipscan.engine import Counts, Neighbors, as_rows, codebook, cuda
from clipscan.engine.devices import Devices
from clipscan.engine.split_search import on_host

pytestmark = pytest.mark.usefixtures("device")  # of conftest.py


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


def test_a_table_on_the_device_is_read_there(engine):
    x = cloud(200, 6)
    loaded = engine.load(as_rows(x), codebook.fit([as_rows(x)]))
    far = np.full(200, np.inf, np.float32)
    table, _ = engine.pairs(loaded, (0, 200), (0, 200), 9, far, far, 1 << 24, Counts())
    ours = engine.density(*table, None, 1)
    assert_same_scores(ours, engine.density(*on_host(table), None, 1), 0)
