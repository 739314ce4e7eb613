"""Matrices that LAPACK or rounding make hard: singular values and whitening of the witness."""

import numpy as np
import pytest
from disturbance import SEED

from clipscan.scores import witness


def test_a_matrix_of_which_most_singular_values_are_zero_is_decomposed():
    """As of few rows; LAPACK's SVD by divide and conquer gives up on some of these."""
    draw = np.random.default_rng([9, SEED, 7])
    matrix = draw.normal(size=(64, 12)) @ draw.normal(size=(12, 64)) / 64
    expected = np.linalg.svd(matrix)[1]
    u, s, vt = witness._singular(matrix)
    assert np.allclose(s, expected, atol=1e-12) and (np.diff(s) <= 0).all()
    assert np.allclose(u * s @ vt, matrix, atol=1e-12)
    assert np.allclose(u[:, :12].T @ u[:, :12], np.eye(12), atol=1e-9)
    assert np.allclose(vt[:12] @ vt[:12].T, np.eye(12), atol=1e-9)


@pytest.mark.parametrize("noise", [(3e-17, -9e-17, 4e-17), (1e-17, -9e-17, 2e-17), (0, 0, 0)])
def test_a_covariance_of_rounding_errors_is_whitened_to_finite_numbers(noise):
    found = witness._whitening(np.diag(noise))
    assert np.isfinite(found).all() and (np.abs(np.linalg.eigvalsh(found)) > 0).all()


def test_a_covariance_is_whitened_as_it_is_shrunk():
    draw = np.random.default_rng([9, SEED, 8])
    root = draw.normal(size=(12, 12))
    covariance = root @ root.T
    size = witness.SHRINKAGE * np.trace(covariance) / 12
    found = witness._whitening(covariance)
    assert np.allclose(found @ (covariance + size * np.eye(12)) @ found.T, np.eye(12), atol=1e-9)
