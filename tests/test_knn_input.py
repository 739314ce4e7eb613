"""What a search takes and refuses: types, views, libraries, values, memory, arguments, interrupts."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from compare import assert_same_table
from knn_helpers import exact, rows

import clipscan
from clipscan.engine import arrays, as_rows, knn, reasons
from clipscan.errors import InputError


def test_a_memory_map_is_not_copied(tmp_path):
    wide = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (60, 8))
    wide[:] = rows(60, 8)
    source = as_rows(np.load(tmp_path / "x.npy", mmap_mode="r")).sources()[0]
    assert isinstance(source, np.memmap) and source.dtype == np.float16


def test_too_little_memory_for_a_large_search_is_refused_in_words():
    x = np.zeros((20_000, 4), np.float32)
    with pytest.raises(clipscan.InputError, match="max_memory=1000000: .* at least 36834432 bytes"):
        knn(x, k=3, max_memory=1_000_000)


INTERRUPTED = """
import numpy, signal
import clipscan
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
x = numpy.random.default_rng(0).standard_normal((60_000, 512)).astype(numpy.float32)
print("ready", flush=True)
try:
    clipscan.knn(x, k=16, threads=1)
    print("finished")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_ends_a_search_at_once():
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(0.7)
    child.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, _ = child.communicate(timeout=60)
    assert out == "interrupted\n"
    assert time.monotonic() - sent < 5  # a whole search takes longer; one panel takes microseconds


DTYPES = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_float_types_are_searched_as_float32(dtype):
    x = rows(60, 12).astype(dtype)
    assert_same_table(knn(x, k=4), x.astype(np.float32), x.astype(np.float32), *exact(x, x, 4))


def test_views_memory_maps_and_shards_give_the_table_of_the_plain_array(tmp_path):
    x = rows(90, 10)
    plain = knn(x, k=5)
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((180, 21), np.float32)
    wide[::2, 1::2] = x
    views = {
        "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "strided": wide[::2, 1::2],
        "fortran": np.asfortranarray(x),
        "reversed": x[::-1].copy()[::-1],
        "shards": [x[:1], x[1:50], x[50:]],
        "lists": x.tolist() and np.array(x.tolist(), np.float32),
    }
    for name, view in views.items():
        table = knn(view, k=5)
        assert (table.index == plain.index).all() and (table.distance == plain.distance).all(), name


def test_dlpack_objects_are_read():
    class Capsule:  # nothing but the protocol
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x = rows(20, 4)
    assert (knn(Capsule(x), k=3).index == knn(x, k=3).index).all()


def test_torch_tensors_come_back_as_torch_tensors():
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    x = torch.from_numpy(rows(40, 8))
    table = knn(x, k=3)
    assert isinstance(table.distance, torch.Tensor)
    tiny = x.to(torch.float8_e4m3fn)  # a type that NumPy has not
    assert (knn(tiny, k=3).index == torch.from_numpy(knn(tiny.float().numpy(), k=3).index)).all()
    half = x.to(torch.bfloat16)
    assert (knn(half, k=3).index == torch.from_numpy(knn(half.float().numpy(), k=3).index)).all()


def test_blocks_cross_shard_borders():
    parts = [rows(3, 4), rows(5, 4, 1), rows(2, 4, 2)]
    stacked, whole = arrays.as_rows(parts), np.concatenate(parts)
    assert (stacked.block(2, 9) == whole[2:9]).all()
    assert (stacked.take(np.array([9, 0, 4, 4])) == whole[[9, 0, 4, 4]]).all()


def test_nan_and_infinite_rows_are_named():
    x = rows(30, 4)
    x[4, 1], x[17, 0] = np.nan, np.inf
    with pytest.raises(clipscan.InputError, match="2 of 30 rows .* rows 4, 17"):
        knn(x, k=3)


def test_float64_rows_that_leave_float32_are_named():
    x = rows(10, 4).astype(np.float64)
    x[6] *= 1e200
    with pytest.raises(clipscan.InputError, match="rows 6"):
        knn(x, k=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"k": 20}, "use k <= 19"),
        ({"queries": np.zeros(5, np.float32)}, r"pass x\[None, :\]"),
        ({"queries": np.zeros((2, 3, 4), np.float32)}, r"shape \[n, d\]"),
        ({"queries": np.zeros((20, 4), np.int64)}, "int64; convert it first"),
        ({"queries": np.zeros((20, 0), np.float32)}, "width 0"),
        ({"queries": np.zeros((0, 4), np.float32)}, "got 0"),
        ({"reference": np.zeros((20, 5), np.float32)}, "width 4, reference rows have width 5"),
        ({"query_ids": np.arange(20)}, "both or neither"),
    ],
)
def test_bad_arguments_are_refused_in_words(change, message):
    arguments = {"queries": rows(20, 4), "k": 3} | change
    with pytest.raises(clipscan.InputError, match=message):
        knn(**arguments)


def test_a_named_backend_serves_or_says_why_not():
    x = rows(20, 4)
    assert knn(x, k=3, backend="cpu").backend == "cpu"
    assert knn(x, k=3, backend="reference").backend == "reference"
    with pytest.raises(clipscan.BackendError, match="no back-end 'cupy'"):
        knn(x, k=3, backend="cupy")
    for name, reason in reasons().items():
        if reason:
            with pytest.raises(clipscan.BackendError, match=f"back-end '{name}' "):
                knn(x, k=3, backend=name)
    with pytest.raises(clipscan.BackendError, match="at most"):
        knn(np.zeros((70000, 1), np.float32), k=66000, backend="cpu")


SMALL = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")


@pytest.mark.parametrize("library", ["torch", "ml_dtypes"])
@pytest.mark.parametrize("kind", [*SMALL, "bfloat16"])
def test_every_float8_is_read_as_float32_from_every_library(library, kind):
    made = pytest.importorskip(library, reason=f"needs {library}: pip install {library}")
    x = rows(40, 8)
    if library == "torch":
        small = made.from_numpy(x).to(getattr(made, kind))
        x = small.float().numpy()
    else:
        small = x.astype(getattr(made, kind))
        x = small.astype(np.float32)
    theirs, plain = knn(small, k=3), knn(x, k=3)
    assert (np.asarray(theirs.index) == plain.index).all()
    assert (np.asarray(theirs.distance) == plain.distance).all()
    assert knn([small, small], k=3).n == 80


class OnDevice:
    """An array on a GPU, of a library with NumPy's names of types."""

    def __init__(self, kind):
        self.dtype = type("dtype", (), {"name": kind, "kind": "f"})
        self.shape, self.ndim = (20, 4), 2

    def __dlpack_device__(self):
        return (2, 0)

    def astype(self, kind):
        return OnDevice(kind)


def test_types_are_known_by_name_on_a_gpu_as_well():
    for kind in ("float4_e2m1fn", "float6_e2m3fn", "int32", "complex64", "bool", "uint8"):
        with pytest.raises(InputError, match=f"got {kind}; convert it first"):
            as_rows(OnDevice(kind))
    for kind in ("float8_e5m2", "float8_e4m3fn", "float16", "bfloat16", "float32", "float64"):
        assert as_rows(OnDevice(kind)).n == 20


def test_a_type_that_kernels_do_not_read_is_converted_on_its_device():
    [small] = as_rows(OnDevice("float8_e5m2")).on_device(0)
    [large] = as_rows(OnDevice("float16")).on_device(0)
    assert small.dtype.name == "float32" and large.dtype.name == "float16"


def test_an_extended_double_is_read_as_float32():
    x = rows(20, 4)
    assert (knn(x.astype(np.longdouble), k=3).index == knn(x, k=3).index).all()
