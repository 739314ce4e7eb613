"""Which back-end serves: asked for, or found right; and what is said when one is left out or fails."""

import json
import logging

import numpy as np
import pytest
from cuda_sim import build

import clipscan
from clipscan.engine import as_rows, backends, cuda, hash_rows, knn, trial
from clipscan.errors import BackendError, DeviceLost, InputError


@pytest.fixture(scope="module")
def simulated():
    return build()


@pytest.fixture(autouse=True)
def nothing_known(tmp_path, monkeypatch):
    """What was learnt of this machine's back-ends is forgotten, before and after."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield
    forget()


# Read by every Python that starts with its folder on the path: the simulated device for that of the hardware.
SIMULATED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("_cuda_sim", {library!r})
sys.modules["clipscan._cuda"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


@pytest.fixture
def gpu(simulated, monkeypatch, tmp_path):
    """A host with two GPUs, which the CPU stands in for, here and in processes that are started."""
    monkeypatch.setattr(cuda, "_module", lambda: simulated)
    monkeypatch.setattr(backends, "ON_GPU", ("cuda",))  # whatever else this machine has
    (tmp_path / "sitecustomize.py").write_text(SIMULATED.format(library=simulated.__file__))
    monkeypatch.syspath_prepend(tmp_path)
    return monkeypatch


@pytest.fixture
def broken(gpu, tmp_path):
    """Does `code` in processes that are started, before their first search."""

    def plant(code):
        with (tmp_path / "sitecustomize.py").open("a") as file:
            file.write(code)

    return plant


@pytest.fixture
def trials(monkeypatch):
    """The back-ends that were tried, as they are."""
    tried, run = [], trial.run

    def counted(module, devices):
        tried.append(module)
        return run(module, devices)

    monkeypatch.setattr(trial, "run", counted)
    return tried


def forget():
    """What a new process would not know."""
    for cached in (backends.gpus, backends._unavailable, backends._unfit):
        cached.cache_clear()


WRONG = """
from clipscan.engine import cuda
right = cuda.CudaEngine.pairs

def wrong(self, *arguments):
    (distance, index), other = right(self, *arguments)
    index = index.numpy()
    index[7, 0] += 1
    return (distance.numpy(), index), other

cuda.CudaEngine.pairs = wrong
"""
HANGING = """
import os
os.environ["CLIPSCAN_SIM_HANG"] = "3"  # the third kernel never ends
"""


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


def test_a_gpu_that_errs_is_left_out_aloud(broken, x, caplog):
    broken(WRONG)
    with caplog.at_level(logging.WARNING, "clipscan"):
        assert knn(x, k=4).backend == "cpu"
        assert knn(x, k=4).backend == "cpu"
    assert "'cuda' is left out: its table of 900 sample rows differs" in caplog.text


def test_a_gpu_that_hangs_is_left_out_and_the_next_process_knows(
    broken, x, caplog, trials, tmp_path, monkeypatch
):
    broken(HANGING)
    with monkeypatch.context() as short, caplog.at_level(logging.WARNING, "clipscan"):
        short.setattr(trial, "SEARCH_SECONDS", 1.0)
        assert knn(x, k=4).backend == "cpu"
        forget()
        assert knn(x, k=4).backend == "cpu"
    assert trials == [cuda.__name__]
    assert caplog.text.count("gave no answer in 1 s") == 2
    [kept] = (tmp_path / "cache" / "clipscan" / "trials").iterdir()
    assert f"To have it tried again, remove {kept}; backend='cuda' takes it all the same" in caplog.text
    assert "gave no answer" in backends.trials()["cuda"]

    kept.unlink()
    forget()
    (tmp_path / "sitecustomize.py").write_text(SIMULATED.format(library=cuda._module().__file__))
    assert knn(x, k=4).backend == "cuda"
    assert backends.trials()["cuda"] == "right"


def test_a_gpu_is_tried_once_for_a_build_a_driver_and_its_devices(gpu, x, trials, tmp_path):
    assert backends.trials()["cuda"] == "not tried yet"
    for _ in range(2):
        assert knn(x, k=4).backend == "cuda"
        forget()
    assert len(trials) == 1
    kept = [json.loads(path.read_text()) for path in (tmp_path / "cache" / "clipscan" / "trials").iterdir()]
    assert [verdict["reason"] for verdict in kept] == [None]
    assert {"clipscan", "back-end", "driver", "part 0", "part 1", "part 2"} <= {*kept[0]["facts"]}
    assert "simulated number 1" in kept[0]["facts"]["part 2"]

    assert knn(x, k=4, devices="1").backend == "cuda"  # another set of devices is another trial
    assert len(trials) == 2


def test_the_process_that_asks_touches_no_device_before_the_trial(gpu, x, monkeypatch):
    made = []
    original = cuda.CudaEngine.__init__
    monkeypatch.setattr(cuda.CudaEngine, "__init__", lambda self, *a: (made.append(1), original(self, *a))[1])
    run = trial.run
    monkeypatch.setattr(trial, "run", lambda *a: (made.append("trial"), run(*a))[1])
    assert knn(x, k=4).backend == "cuda"
    assert made[0] == "trial" and len(made) > 1


def test_the_cpu_takes_over_unless_the_gpu_was_asked_for(gpu, x, caplog):
    knn(x, k=4)  # found right

    def fail(self, *arguments):
        raise DeviceLost(f"{self.name}: an illegal memory access")

    gpu.setattr(cuda.CudaEngine, "pairs", fail)
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
