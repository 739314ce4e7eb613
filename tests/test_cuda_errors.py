"""What may go wrong on a CUDA device: memory left or too small, failures, names; each is said."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest
from cuda_helpers import assert_equals_the_cpu, cloud, engine, simulated, tight, within  # noqa: F401

from clipscan.engine import Counts, Neighbors, as_rows, cuda
from clipscan.engine.devices import Devices
from clipscan.errors import BackendError, DeviceLost

pytestmark = pytest.mark.usefixtures("device")  # of conftest.py


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
