"""The CUDA engine under test, and clouds of rows for it."""

from __future__ import annotations

import numpy as np
import pytest

from clipscan.engine import Counts, Neighbors, as_rows, cpu, cuda
from clipscan.engine.devices import Devices
from clipscan.engine.libraries import numpy_of

KERNELS = ("mma", "wgmma")


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


# ---- what may go wrong


@pytest.fixture
def simulated(device, monkeypatch):
    if device.__name__ != "_cuda_sim":
        pytest.skip("only the simulated device fails on request")
    return monkeypatch
