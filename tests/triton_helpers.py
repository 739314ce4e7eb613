"""The Triton back-end with small tiles, and the tables that it must find.

Its tests are skipped where torch or triton is not installed.
"""

import importlib.util

import numpy as np
import pytest

from clipscan.engine import Counts, as_rows, codebook, cpu, triton

MISSING = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
if MISSING:
    pytest.skip(f"triton: needs {' and '.join(MISSING)}", allow_module_level=True)

import torch  # noqa: E402

UNAVAILABLE = triton.available()
runs = pytest.mark.skipif(UNAVAILABLE is not None, reason=f"{UNAVAILABLE}; see test_triton.py")
MEMORY = 1 << 30


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def near_copies(n, d, seed=0):
    """Rows that codes cannot tell apart: every pair is a candidate, and has to be measured."""
    return rows(1, d, seed) + np.float32(1e-6) * rows(n, d, seed + 1)


@pytest.fixture(scope="module")
def engine():
    """With small tiles, so that small inputs have many."""
    usual = triton.engines()[0]
    return type(usual)(usual.name, usual.sizes._replace(tile=64, part=64))


def another(engine, **options):
    return type(engine)(engine.name, **{"sizes": engine.sizes, **options})


@pytest.fixture(autouse=True)
def poison(monkeypatch):
    """What a kernel does not write is NaN or -1."""
    empty = torch.empty

    def poisoned(*shape, **options):
        out = empty(*shape, **options)
        return out.fill_(torch.nan if out.is_floating_point() else -1)

    monkeypatch.setattr(torch, "empty", poisoned)


def kernels(name):
    return triton._kernels(name)


def load(engine, x):
    source = as_rows(x)
    return engine.load(source, codebook.fit([source]))


def among(engine, x, k, limit=None, memory=MEMORY, counts=None):
    """The table of a self-search."""
    held = load(engine, x)
    everyone = (0, held.n)
    table, none = engine.pairs(held, everyone, everyone, k, limit, limit, memory, counts or Counts())
    assert none is None
    return table


def on_cpu(x, k):
    return cpu.within(as_rows(x), k, 2, MEMORY, Counts())


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert (ours == theirs).all()
