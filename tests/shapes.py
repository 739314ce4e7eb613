"""Clouds of rows that broke other people's kernels: shape(rng, n, d) -> float64 [n, d]."""

import numpy as np


def ordinary(rng, n, d):
    return rng.standard_normal((n, d))


def one_far_outside(rng, n, d):
    x = rng.standard_normal((n, d))
    x[n // 2] *= 1e4
    return x


def spiky(rng, n, d):
    x = 1e-3 * rng.standard_normal((n, d))
    x[np.arange(n), rng.integers(0, d, n)] = 1.0
    return x


def narrow_cone(rng, n, d):
    return 1000 + rng.standard_normal((n, d))


def many_scales(rng, n, d):
    return rng.standard_normal((n, d)) * 10.0 ** rng.integers(-6, 7, (n, 1))


def tiny(rng, n, d):
    return 1e-30 * rng.standard_normal((n, d))


def huge(rng, n, d):
    return 1e16 * rng.standard_normal((n, d))


def all_equal(rng, n, d):
    return np.ones((n, d))


SHAPES = [ordinary, one_far_outside, spiky, narrow_cone, many_scales, tiny, huge, all_equal]
