"""Codes never lie about distances: the one bound that pairs are discarded by holds for every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPES, one_far_outside, ordinary

from clipscan import _core
from clipscan.engine import as_rows, codebook, reference

UNIT = 2.0**-24
KERNELS = [*_core.instruction_sets(), "amx_plain"]


def all_pairs(x):
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))


def worst_excess(x, book, codes, error):
    """By how much the bound fails at worst, in code units; negative where it holds for all pairs."""
    true = reference.factor(book) * all_pairs(x.astype(np.float64))
    coded = all_pairs(codes.astype(np.float64))
    room = error[:, None].astype(np.float64) + error[None]
    return (np.abs(true - coded) - room).max()


@settings(deadline=None, max_examples=80)
@given(
    n=st.integers(1, 40),
    d=st.sampled_from([1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 48, 64, 100, 512, 768]),
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 9999),
    strange=st.booleans(),
)
def test_the_bound_holds_for_every_pair(n, d, shape, seed, strange):
    rng = np.random.default_rng(seed)
    x = shape(rng, n, d).astype(np.float32)
    fitted = ordinary(rng, 20, d).astype(np.float32) if strange else x  # a codebook of other rows fits worse
    book = codebook.fit([as_rows(fitted)])
    for name in KERNELS:
        codes, error = _core.encode([x], *book, name)
        assert worst_excess(x, book, codes, error) <= 0, name


@pytest.mark.parametrize("d", [1, 3, 4, 16, 20, 33, 512, 640, 768, 4096])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_instruction_set_makes_the_codes_of_the_definition(d, shape):
    x = shape(np.random.default_rng(d), 23, d).astype(np.float32)
    book = codebook.fit([as_rows(x)])
    codes, error = reference.encode(x, book)
    length = np.linalg.norm(codes, axis=1) + error
    for name in KERNELS:
        ours, bound = _core.encode([x], *book, name)
        assert (ours == codes).all(), name
        assert (bound >= error * (1 - 1e-6)).all(), name
        # what is added for rounding: one step a term of the sum, a few dozen of the row's length
        assert (bound <= error * (1 + (d + 64) * UNIT) + 100 * UNIT * length).all(), name


def test_a_bound_without_the_error_would_fail():
    rng = np.random.default_rng(0)
    x = ordinary(rng, 40, 64).astype(np.float32)
    book = codebook.fit([as_rows(x)])
    codes, error = _core.encode([x], *book)
    assert worst_excess(x, book, codes, error) <= 0
    assert worst_excess(x, book, codes, 0.02 * error) > 0


def test_the_rotation_keeps_distances_and_spreads_a_spike():
    x = np.zeros((2, 768), np.float32)
    x[0, 5] = 1
    book = codebook.fit([as_rows(x)])
    y = codebook.rotate(x, np.zeros(768, np.float32), book.sign)
    assert abs(np.linalg.norm(y[0] - y[1]) - 1) < 1e-6
    assert np.abs(y[0]).max() < 0.2


def test_one_scale_leaves_almost_all_rows_whole_whatever_one_row_is():
    rng = np.random.default_rng(1)
    x = one_far_outside(rng, 1000, 128).astype(np.float32)
    book = codebook.fit([as_rows(x)])
    _, error = _core.encode([x], *book)
    usual = np.sqrt(book.width / 12)
    assert np.median(error) < 1.2 * usual
    assert (error > 2 * usual).sum() <= 0.01 * len(x)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_codes_do_not_depend_on_how_rows_are_stored(dtype):
    x = np.random.default_rng(2).standard_normal((50, 37)).astype(dtype)
    book = codebook.fit([as_rows(x)])
    plain = _core.encode([x.astype(np.float32)], *book)
    wide = np.zeros((100, 75), dtype)
    wide[::2, 1::2] = x
    for stored in ([x], [np.asfortranarray(x)], [x[:7], x[7:]], [wide[::2, 1::2]], [x[::-1].copy()[::-1]]):
        for ours, expected in zip(_core.encode(stored, *book), plain, strict=True):
            assert (ours == expected).all()


def test_all_float16_numbers_widen_alike_on_every_instruction_set():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = halves[np.isfinite(halves)].reshape(-1, 8)  # 63,488 numbers
    book = codebook.Codebook(np.zeros(8, np.float32), np.ones((2, 8), np.float32), 1e-3)
    plain = _core.encode([x.astype(np.float32)], *book)
    for name in KERNELS:
        for ours, expected in zip(_core.encode([x], *book, name), plain, strict=True):
            assert (ours == expected).all(), name
