"""The number to drop: right where a second population stands apart, nobody where there is one only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.errors import InputError
from clipscan.scores.estimate import NOBODY, estimate

CLEAN = {
    "exponential": lambda draw, n: draw.exponential(size=n),
    "normal": lambda draw, n: draw.normal(size=n),
    "uniform": lambda draw, n: draw.uniform(size=n),
    "log-normal": lambda draw, n: np.exp(draw.normal(size=n)),
    "constant": lambda draw, n: np.zeros(n),
}


@pytest.mark.parametrize("kind", CLEAN)
def test_one_population_has_nobody_to_drop(kind):
    flagged = [estimate(CLEAN[kind](np.random.default_rng(seed), 20_000)).number for seed in range(20)]
    assert max(flagged) <= 0.005 * 20_000 and np.mean(np.array(flagged) > 0) <= 0.1


@pytest.mark.parametrize("kind", ["exponential", "normal", "uniform", "constant"])
def test_a_tail_that_falls_off_fast_enough_has_nobody_to_drop(kind):
    draws = (CLEAN[kind](np.random.default_rng(seed), 20_000) for seed in range(20))
    assert [estimate(draw, exponential=True) for draw in draws] == [NOBODY] * 20


@pytest.mark.parametrize("share", [0.002, 0.005, 0.02])
def test_a_shoulder_without_a_valley_is_counted_within_a_factor_of_two(share):
    draw = np.random.default_rng(4)
    count = round(share * 50_000)
    scores = np.concatenate([draw.exponential(size=50_000), 11 + 3 * draw.normal(size=count)])
    found = estimate(scores, exponential=True)
    assert count / 2 <= found.number <= 2 * count
    assert found.fewest <= found.number <= found.most


def test_a_population_that_bends_the_line_itself_is_found_by_its_valley():
    draw = np.random.default_rng(6)
    scores = np.concatenate([draw.exponential(size=20_000), 25 + draw.normal(size=2000)])
    assert 1900 <= estimate(scores, exponential=True).number <= 2100


@pytest.mark.parametrize("count", [60, 250, 2500])
@pytest.mark.parametrize("kind", ["exponential", "normal"])
def test_a_population_that_stands_apart_is_counted(kind, count):
    draw = np.random.default_rng(count)
    clean = CLEAN[kind](draw, 50_000)
    poison = clean.max() + 3 + draw.normal(size=count)
    found = estimate(np.concatenate([clean, poison]))
    assert 0.9 * count <= found.number <= 1.1 * count
    assert found.fewest <= found.number <= found.most


def test_overlapping_populations_are_counted_within_a_factor_of_two():
    draw = np.random.default_rng(1)
    scores = np.concatenate([draw.exponential(size=50_000), 9.5 + draw.normal(size=300)])
    assert 150 <= estimate(scores).number <= 600


def test_order_scale_and_offset_change_nothing():
    draw = np.random.default_rng(2)
    scores = np.concatenate([draw.exponential(size=5000), 12 + draw.normal(size=60)])
    found = estimate(scores)
    moved = estimate(1000 + 1e-3 * draw.permutation(scores))
    assert (found.number, found.fewest, found.most) == (moved.number, moved.fewest, moved.most)


def test_infinite_and_missing_scores_do_no_harm():
    draw = np.random.default_rng(3)
    scores = np.concatenate([draw.exponential(size=5000), 12 + draw.normal(size=60), [np.nan, -np.inf]])
    assert 57 <= estimate(scores).number <= 63
    assert estimate([np.nan] * 9) == estimate([]) == estimate([1.0]) == NOBODY


def test_one_row_far_away_is_no_population_and_holds_nobody_up():
    draw = np.random.default_rng(5)
    crowd = draw.exponential(size=2000)
    assert estimate([*crowd, 2e5]) == NOBODY  # millions of empty windows between them
    apart = [*crowd, *(20 + draw.normal(size=60)), 2e5]
    assert 60 <= estimate(apart).number <= 62


def test_scores_must_be_one_column():
    with pytest.raises(InputError, match=r"\[n\]"):
        estimate(np.zeros((3, 2)))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=200), st.booleans())
def test_any_column_has_an_estimate_within_its_bounds(scores, exponential):
    found = estimate(scores, exponential=exponential)
    assert 0 <= found.fewest <= found.number <= found.most <= len(scores)
    assert found == NOBODY or found.number == sum(one >= found.border for one in scores)
