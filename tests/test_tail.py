"""The common scale of scores: how rare a value is among all rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.scores.neg_log_tail import neg_log_tail

COLUMNS = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=60)
# Few different values, so that most are ties.
TIES = st.lists(st.sampled_from([np.nan, -np.inf, -1.0, -0.0, 0.0, 2.5, np.inf]), min_size=1, max_size=60)


def plain(values):
    known = [one for one in values if not math.isnan(one)]
    share = [(sum(other >= one for other in known) - 0.5) / max(1, len(known)) for one in values]
    return [0.0 if math.isnan(one) else -math.log(s) for one, s in zip(values, share, strict=True)]


@settings(deadline=None)
@given(COLUMNS | TIES)
def test_it_counts_the_rows_that_are_at_least_as_high(values):
    assert neg_log_tail(np.array(values)) == pytest.approx(plain(values), abs=1e-12)


@settings(deadline=None)
@given(COLUMNS | TIES)
def test_the_order_of_values_is_kept_and_ties_stay_ties(values):
    values = np.array(values)
    found = neg_log_tail(values)
    known = ~np.isnan(values)
    higher = values[known][:, None] > values[known]
    equal = values[known][:, None] == values[known]
    assert (found[known][:, None] > found[known])[higher].all()
    assert (found[known][:, None] == found[known])[equal].all()


@settings(deadline=None)
@given(COLUMNS | TIES)
def test_no_value_leaves_the_range_and_missing_ones_have_none(values):
    values = np.array(values)
    found, known = neg_log_tail(values), (~np.isnan(values)).sum()
    assert (found[np.isnan(values)] == 0).all()
    assert (found <= math.log(2 * max(1, known)) + 1e-12).all()
    assert (found >= -math.log1p(-0.5 / max(1, known)) - math.log(2) - 1e-12).all() or known == 1
    assert (found >= 0).all()


@settings(deadline=None)
@given(TIES, st.integers(0, 99))
def test_the_order_of_rows_means_nothing(values, seed):
    values = np.array(values)
    turn = np.random.default_rng(seed).permutation(len(values))
    assert np.array_equal(neg_log_tail(values[turn]), neg_log_tail(values)[turn])


def test_the_highest_of_n_has_ln_2n_and_the_mean_is_about_one():
    values = np.random.default_rng(0).normal(size=1000)
    found = neg_log_tail(values)
    assert found.max() == found[values.argmax()] == pytest.approx(math.log(2000))
    assert found.mean() == pytest.approx(1, abs=0.01)
    assert np.exp(-np.sort(found)[::-1]) == pytest.approx((np.arange(1000) + 0.5) / 1000)


def test_nobody_and_nothing_known_have_no_value():
    assert neg_log_tail(np.zeros(0)).shape == (0,)
    assert (neg_log_tail(np.full(3, np.nan)) == 0).all()


def test_where_all_are_equal_nobody_stands_out():
    assert neg_log_tail(np.ones(500)) == pytest.approx(0, abs=2e-3)
