"""Two components in one column: found where they are, refused in words where they are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clipscan
from clipscan.errors import InputError
from clipscan.scores.mixture import Component, Mixture, fit_mixture, partition


def planted(n=4000, low=0.1, seed=0):
    """Cosines, the share `low` of them of wrong captions, which come first."""
    draw = np.random.default_rng(seed)
    wrong = round(low * n)
    return np.concatenate([draw.normal(0.05, 0.03, wrong), draw.normal(0.25, 0.05, n - wrong)]), wrong


SHAPES = {
    "normal": lambda draw, n: draw.normal(size=n),
    "heavy tails": lambda draw, n: draw.standard_t(3, n),
    "skewed": lambda draw, n: -draw.gamma(2, size=n),
    "very skewed": lambda draw, n: draw.lognormal(size=n),
    "a peak at the edge": lambda draw, n: draw.exponential(size=n),
}


@pytest.mark.parametrize("low", [0.02, 0.1, 0.5])
def test_a_planted_mixture_is_found_and_split(low):
    cosine, wrong = planted(low=low)
    found = clipscan.partition(cosine)
    assert found.separated and found.mixture.separates
    assert found.mixture.low.weight == pytest.approx(low, abs=0.02)
    assert found.mixture.low.mean == pytest.approx(0.05, abs=0.01)
    assert found.mixture.high.mean == pytest.approx(0.25, abs=0.01)
    assert found.safe[:wrong].mean() < 0.1 and found.safe[wrong:].mean() > 0.95
    assert "are safe; two components" in found.words()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [500, 4000])
def test_one_component_of_any_shape_is_not_split_and_said_so_in_words(shape, n):
    values = SHAPES[shape](np.random.default_rng(1), n)
    found = partition(values)
    assert not found.separated and not found.mixture.separates and not found.safe.any()
    assert np.isnan(found.posterior).all() and not partition(values, threshold=0.0).safe.any()
    assert "safe and risky pairs cannot be told apart: the cosines do not separate" in found.words()
    by_share = partition(values, share=0.85)
    assert by_share.safe.sum() == 0.85 * n and np.isnan(by_share.posterior).all()
    assert "do not separate" in by_share.words()


def test_it_is_as_likely_as_the_mixture_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.mixture", reason="needs scikit-learn: pip install 'clipscan[dev]'")
    for low in (0.02, 0.1, 0.5):
        x, _ = planted(low=low)
        theirs = sklearn.GaussianMixture(2, random_state=0, n_init=3, tol=1e-7, max_iter=1000).fit(x[:, None])
        ours = fit_mixture(x)
        order = np.argsort(theirs.means_.ravel())
        for name, value in (
            ("mean", theirs.means_.ravel()),
            ("deviation", np.sqrt(theirs.covariances_.ravel())),
            ("weight", theirs.weights_),
        ):
            expected = [getattr(ours.low, name), getattr(ours.high, name)]
            assert np.allclose(value[order], expected, rtol=5e-3, atol=5e-4), name
        between = x[(x > ours.low.mean) & (x < ours.high.mean)]
        probability = theirs.predict_proba(between[:, None])[:, order[1]]
        assert np.allclose(ours.posterior(between), probability, atol=0.01)


components = st.builds(Component, st.floats(-1, 1), st.floats(1e-3, 1), st.floats(0.01, 0.99))


@given(components, components, st.lists(st.floats(-10, 10), min_size=2, max_size=50))
def test_what_is_higher_is_never_less_safe(one, other, values):
    low, high = sorted((one, other))
    posterior = Mixture(low, high, 0.0).posterior(np.sort(values))
    assert ((posterior >= 0) & (posterior <= 1)).all()
    assert (np.diff(posterior) >= -1e-9).all()  # both densities are rounded


def test_the_raw_posterior_would_call_the_lowest_cosines_safe():
    wide_high = Mixture(Component(0.0, 0.1, 0.5), Component(1.0, 0.5, 0.5), 0.0)
    x = np.array([-3.0, 0.0, 1.0])
    densities = [
        c.weight * np.exp(-0.5 * ((x - c.mean) / c.deviation) ** 2) / c.deviation for c in wide_high[:2]
    ]
    raw = densities[1] / (densities[0] + densities[1])
    assert raw[0] > 0.99  # the trap
    held = wide_high.posterior(x)
    assert held[0] < 0.1 and np.allclose(held[1:], raw[1:])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_pairs_does_not_matter(seed):
    cosine, _ = planted(500, low=0.2)
    order = np.random.default_rng(seed).permutation(len(cosine))
    there, shuffled = partition(cosine), partition(cosine[order])
    assert np.array_equal(there.safe[order], shuffled.safe)
    assert np.array_equal(there.posterior[order], shuffled.posterior)


@settings(max_examples=15, deadline=None)
@given(st.floats(-5, 5), st.floats(0.01, 100))
def test_any_scale_will_do(shift, scale):
    cosine, _ = planted(500, low=0.2)
    there, moved = partition(cosine), partition(shift + scale * cosine)
    assert np.allclose(there.posterior, moved.posterior, atol=0.01)
    assert moved.mixture.apart == pytest.approx(there.mixture.apart, rel=0.01)


def test_a_share_takes_the_highest_and_of_equal_ones_the_first():
    safe = partition([0.5, 0.2, 0.5, 0.5, np.nan], share=0.4).safe
    assert safe.tolist() == [True, False, True, False, False]
    assert partition([0.5, np.nan], share=1).safe.tolist() == [True, False]
    assert not partition([0.5, 0.6], share=0).safe.any()


def test_what_is_not_finite_is_never_safe_and_does_not_disturb_the_others():
    cosine, _ = planted()
    found = partition(np.concatenate([[np.nan, np.inf, -np.inf], cosine]))
    assert not found.safe[:3].any() and np.isnan(found.posterior[:3]).all()
    assert np.array_equal(found.safe[3:], partition(cosine).safe)


@pytest.mark.parametrize("values", [[], [1.0], [0.3] * 500, [0.0, 1.0] * 500, [np.nan] * 500, range(299)])
def test_too_few_different_values_make_no_mixture(values):
    assert fit_mixture(values) is None
    found = partition(values)
    assert found.mixture is None and not found.separated and not found.safe.any()
    assert "needs at least 300 cosines, 20 different ones among them" in found.words()
    assert len(partition(values, share=0.5).safe) == len(values)


def test_copies_of_one_pair_are_not_a_component():
    draw = np.random.default_rng(0)
    assert not fit_mixture(np.concatenate([draw.normal(size=2000), np.full(400, 1.0)])).separates


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"threshold": 0.9, "share": 0.5}, "a threshold or a share, not both"),
        ({"threshold": 1.5}, "threshold=1.5 must lie in 0..1"),
        ({"share": -0.1}, "share=-0.1 must lie"),
    ],
)
def test_wrong_rules_are_refused(asked, message):
    with pytest.raises(InputError, match=message):
        partition(planted()[0], **asked)
    with pytest.raises(InputError, match=r"cosines must be \[n\], got \(2, 2\)"):
        partition(np.zeros((2, 2)))
