"""clipscan.sklearn.LocalOutlierFactor beside scikit-learn's, on the real tables that scikit-learn has.

Equal where the k nearest are one set: for rows whose own k-th distance, and their neighbours', is no tie.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from sklearn import datasets, neighbors

from clipscan.sklearn import LocalOutlierFactor

K = 20


@functools.cache
def tables():
    loaders = datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer
    iris, wine, cancer = (load()["data"] for load in loaders)
    digits, diabetes = datasets.load_digits(), datasets.load_diabetes()
    gym, picture = datasets.load_linnerud(), datasets.load_sample_image("flower.jpg").astype(float)
    patches = picture[:400, :600].reshape(50, 8, 75, 8, 3).swapaxes(1, 2).reshape(-1, 192)[::2]
    temple = datasets.load_sample_image("china.jpg").astype(np.float32)[::9, ::9].reshape(-1, 3)
    classes = {f"digit {c}": digits.data[digits.target == c] for c in range(6)}
    return classes | {
        "iris": iris,
        "iris, sepals": iris[:, :2],
        "wine": wine,
        "wine, standardised": (wine - wine.mean(0)) / wine.std(0),
        "wine, proline": wine[:, -1:],
        "cancer": cancer,
        "cancer, standardised": (cancer - cancer.mean(0)) / cancer.std(0),
        "cancer, float32": cancer.astype(np.float32),
        "digits": digits.data,
        "diabetes": diabetes.data,
        "diabetes, few": diabetes.data[:60, 2:5],
        "gym": np.hstack([gym.data, gym.target]),
        "patches of a flower": patches,
        "colours of a temple": temple,
        "petals in metres, near 0": iris[:, 2:] * 1e-2,
    }  # fmt: skip


def one_set(x):
    """[n] bool: the row and its neighbours each have one set of K nearest, measured by scikit-learn."""
    k = min(K, len(x) - 1)
    if k == len(x) - 1:
        return np.ones(len(x), bool)
    distance, index = neighbors.NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors()
    sharp = distance[:, k] - distance[:, k - 1] > 1e-6 * distance[:, k]
    return sharp & sharp[index[:, :k]].all(axis=1)


def both(x, **how):
    """(negative factors of clipscan, of scikit-learn), [n] each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too few rows, and of copies
        theirs = neighbors.LocalOutlierFactor(n_neighbors=K, **how).fit(x)
        ours = LocalOutlierFactor(n_neighbors=K).fit(x)
    assert (ours.n_neighbors_, ours.offset_) == (theirs.n_neighbors_, theirs.offset_)
    return ours.negative_outlier_factor_, theirs.negative_outlier_factor_


@pytest.mark.parametrize("name", tables())
def test_factors_equal_scikit_learns_where_no_neighbours_tie(name):
    x = tables()[name]
    ours, theirs = both(x)
    same = one_set(x)
    np.testing.assert_allclose(ours[same], theirs[same], rtol=2e-6)


@pytest.mark.parametrize("name", tables())
def test_factors_of_nearly_all_rows_are_equal_once_noise_has_broken_the_ties(name):
    x = tables()[name]
    x = x + 1e-3 * x.std(axis=0) * np.random.default_rng(0).normal(size=x.shape)
    ours, theirs = both(x)
    same = one_set(x)
    assert same.mean() > 0.9
    np.testing.assert_allclose(ours[same], theirs[same], rtol=2e-6)


def test_a_mean_far_from_0_costs_digits_of_scikit_learns_default_not_of_ours():
    cancer = datasets.load_breast_cancer().data + 1e7
    ours, by_differences = both(cancer, algorithm="kd_tree")
    by_norms = both(cancer)[1]  # |x|^2 + |y|^2 - 2xy, what "auto" takes from 16 columns on
    same = one_set(cancer)
    np.testing.assert_allclose(ours[same], by_differences[same], rtol=2e-6)
    assert np.abs(by_norms / by_differences - 1)[same].max() > 1e-4
