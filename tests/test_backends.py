"""Which back-end serves: asked for, or found right; and what is said when one is left out or fails."""

import logging

import numpy as np
import pytest
from cuda_sim import build

import clipscan
from clipscan.engine import as_rows, backends, cuda, hash_rows, knn
from clipscan.errors import BackendError, DeviceLost, InputError


@pytest.fixture(scope="module")
def simulated():
    return build()


@pytest.fixture(autouse=True)
def nothing_known():
    """What was learnt of this machine's back-ends is forgotten, before and after."""
    known = (backends.gpus, backends._unavailable, backends._unfit)
    for cached in known:
        cached.cache_clear()
    yield
    for cached in known:
        cached.cache_clear()


@pytest.fixture
def gpu(simulated, monkeypatch):
    """A host with two GPUs, which the CPU stands in for."""
    monkeypatch.setattr(cuda, "_module", lambda: simulated)
    return monkeypatch


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((90, 12)).astype(np.float32)


def test_a_gpu_that_is_right_serves_unasked(gpu, x):
    table = knn(x, k=4)
    assert table.backend == "cuda"
    assert np.array_equal(table.index, knn(x, k=4, backend="cpu").index)
    assert knn(x, x, k=4).backend == "cuda"
    assert knn(x, k=4, devices="1").backend == "cuda"
    assert knn(x, k=4, devices="cpu").backend == "cpu"
    assert backends.reasons()["cuda"] is None


def test_scores_are_those_of_the_cpu(gpu, x):
    ours, cpu = (clipscan.score(x, k=4, method="all", reference="50x2", devices=d) for d in ("auto", "cpu"))
    for name in ("kdist", "lid", "slof", "dao"):
        assert np.allclose(ours[name], cpu[name], rtol=1e-12), name


def test_a_gpu_that_errs_is_left_out_aloud(gpu, x, caplog):
    right = cuda.Engine.pairs

    def wrong(self, *arguments):
        (distance, index), other = right(self, *arguments)
        index = index.numpy()
        index[7, 0] += 1
        return (distance.numpy(), index), other

    gpu.setattr(cuda.Engine, "pairs", wrong)
    with caplog.at_level(logging.WARNING, "clipscan"):
        assert knn(x, k=4).backend == "cpu"
        assert knn(x, k=4).backend == "cpu"
    assert "'cuda' is left out: its table of 900 sample rows differs" in caplog.text


def test_the_cpu_takes_over_unless_the_gpu_was_asked_for(gpu, x, caplog):
    knn(x, k=4)  # found right

    def fail(self, *arguments):
        raise DeviceLost(f"{self.name}: an illegal memory access")

    gpu.setattr(cuda.Engine, "pairs", fail)
    with caplog.at_level(logging.WARNING, "clipscan"):
        assert knn(x, k=4).backend == "cpu"
    assert "the CPU takes over" in caplog.text and "illegal memory access" in caplog.text
    with pytest.raises(DeviceLost, match="illegal memory access"):
        knn(x, k=4, backend="cuda")


def test_what_a_gpu_cannot_serve_goes_to_the_cpu(gpu):
    x = np.random.default_rng(1).standard_normal((1100, 2)).astype(np.float32)
    assert knn(x, k=1030).backend == "cpu"
    with pytest.raises(BackendError, match="at most 1024 neighbours"):
        knn(x, k=1030, backend="cuda")


def test_devices_are_named_or_refused(gpu, x):
    assert backends.device_names("auto") is None and backends.device_names("cpu") == ()
    assert backends.device_names("0,2") == ("cuda:0", "cuda:2")
    with pytest.raises(InputError, match="numbers of GPUs such as 0,1; got 'first'"):
        knn(x, k=4, devices="first")
    with pytest.raises(BackendError, match="no device cuda:7; it has cuda:0, cuda:1"):
        knn(x, k=4, backend="cuda", devices="7")


def test_asked_for_devices_that_nobody_serves(monkeypatch, x):
    monkeypatch.setattr(cuda, "available", lambda: "is missing")
    monkeypatch.setattr(backends, "ON_GPU", ("cuda",))
    with pytest.raises(BackendError, match="no back-end serves cuda:0: cuda is missing"):
        knn(x, k=4, devices="0")


class OnGpu:
    """Rows on a GPU that may serve nobody, as CuPy's would be."""

    def __init__(self, array):
        self.array = array
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __getitem__(self, rows):
        return OnGpu(self.array[rows])

    def __array__(self, *_, **__):
        return self.array

    def astype(self, kind):
        return self.array.astype(kind)

    def __dlpack_device__(self):
        return (2, 0)


@pytest.mark.parametrize("k", [4, 60])
def test_rows_on_a_gpu_that_nobody_serves_go_to_the_cpu(monkeypatch, x, k):
    monkeypatch.setattr(cuda, "available", lambda: "is missing")
    table = knn(OnGpu(x), k=k)
    assert table.backend == "cpu"
    assert np.array_equal(table.index, knn(x, k=k, backend="cpu").index)
    assert np.array_equal(hash_rows(as_rows(OnGpu(x))), hash_rows(as_rows(x)))
    with pytest.raises(BackendError, match="no back-end serves cuda:0: cuda is missing"):
        knn(OnGpu(x), k=k, devices="0")


def test_a_gpu_that_is_not_there_is_named(gpu, x):
    with pytest.raises(
        BackendError, match="no back-end serves cuda:7: cuda .*no device cuda:7; it has cuda:0, cuda:1"
    ):
        knn(x, k=4, devices="7")
