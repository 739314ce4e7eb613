"""Arrays of other libraries: read where they lie, told by the address, and their like handed back."""

from __future__ import annotations

import numpy as np
import pytest

import clipscan
from clipscan.engine import as_rows

X = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
INDEX = clipscan.knn(X, k=3).index


class Capsule:
    """Nothing but DLPack, of an array that lies elsewhere."""

    def __init__(self, of):
        self.of = of

    def __dlpack__(self, **how):
        return self.of.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.of.__dlpack_device__()


def address(x):
    """Where the core reads the rows of x."""
    (source,) = as_rows(x).sources()
    return source.ctypes.data


def read_only(kind=np.float32):
    rows = X.astype(kind)
    rows.flags.writeable = False
    return rows


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numpy_is_read_where_it_lies_whatever_its_strides_and_never_written(kind):
    rows = read_only(kind)
    held = np.asfortranarray(X.astype(kind))
    for one in (rows, rows[::2], rows[:, 1:5], held, memoryview(rows), Capsule(rows)):
        assert address(one) == np.asarray(one if not isinstance(one, Capsule) else rows).ctypes.data
    assert (clipscan.knn(Capsule(read_only()), k=3).index == INDEX).all()
    scored = clipscan.score(read_only(), text=read_only(), method=["dao", "agree"], k=3)
    assert np.isfinite(scored["agree"]).all()


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_torch_is_read_where_it_lies_with_or_without_a_gradient(kind):
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    rows = torch.from_numpy(X).to(getattr(torch, kind), copy=True)
    for one in (rows, rows[::2], rows[:, 2:], rows.clone().requires_grad_()):
        assert address(one) == one.data_ptr()
    shared = torch.from_numpy(read_only().copy())
    assert (clipscan.knn(shared, k=3).index.numpy() == INDEX).all()


def test_jax_is_read_where_it_lies_and_handed_back():
    numpy = pytest.importorskip("jax.numpy", reason="needs jax")
    for kind in (numpy.float32, numpy.float16, numpy.bfloat16):
        rows = numpy.asarray(X).astype(kind)
        assert address(rows) == rows.unsafe_buffer_pointer()
    found = clipscan.knn(numpy.asarray(X), k=3)
    assert type(found.index).__module__.startswith("jax") and (np.asarray(found.index) == INDEX).all()


def test_what_follows_the_array_api_standard_is_handed_back():
    strict = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    rows = strict.asarray(X, copy=False)
    assert address(rows) == X.ctypes.data
    found, scored = clipscan.knn(rows, k=3), clipscan.score(rows, method="slof", k=3)
    assert type(found.index) is type(found.distance) is type(scored["slof"]) is type(rows)
    assert type(scored.top(3)) is type(scored.flag(fraction=0.1)) is type(rows)
    assert (np.asarray(found.index) == INDEX).all()


def test_a_standard_array_of_a_library_that_nobody_heard_of_is_handed_back():
    class Namespace:
        @staticmethod
        def asarray(a):
            return Foreign(a)

    class Foreign:
        def __init__(self, a):
            self.a = a
            self.shape, self.dtype, self.ndim = a.shape, a.dtype, a.ndim

        def __array_namespace__(self, api_version=None):
            return Namespace

        def __dlpack__(self, **how):
            return self.a.__dlpack__(**how)

        def __dlpack_device__(self):
            return (1, 0)

    found = clipscan.knn(Foreign(X), k=3)
    assert isinstance(found.index, Foreign) and (found.index.a == INDEX).all()
    assert address(Foreign(X)) == X.ctypes.data


def test_what_numpy_cannot_take_over_is_refused_in_words():
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    with pytest.raises(clipscan.InputError, match="by DLPack.*pass it as a torch tensor"):
        clipscan.knn(Capsule(torch.zeros(9, 2, dtype=torch.bfloat16)), k=3)
