"""The number to drop: right where a second population stands apart, nobody where there is one only."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.errors import InputError
from clipscan.scores.consensus import DROP, LOOK, SURE
from clipscan.scores.estimate import NOBODY, Estimate, estimate, estimate_of

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


ANY = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=200)


@settings(deadline=None, max_examples=50)
@given(ANY)
def test_any_column_has_an_estimate_within_its_bounds(scores):
    found = estimate(scores)
    assert 0 <= found.fewest <= found.number <= found.most <= len(scores)
    assert found == NOBODY or found.number == sum(one >= found.border for one in scores)


def test_consensus_says_by_its_steps_whom_it_convicted():
    evidence = np.random.default_rng(7).exponential(size=5000).clip(0, math.log(10_000))
    assert estimate_of("consensus", evidence) == NOBODY
    scores = np.concatenate([evidence, np.full(3, LOOK), np.full(20, DROP), [SURE - 0.1], np.full(7, SURE)])
    assert estimate_of("consensus", scores) == (28, 7, 31, DROP)
    assert estimate_of("consensus", scores[::-1]) == (28, 7, 31, DROP)


def test_a_consensus_that_only_looks_drops_nobody():
    assert estimate_of("consensus", [0.0, 1.0, LOOK, LOOK + 9]) == NOBODY


def test_a_valley_of_consensus_is_no_population_and_steps_of_others_are_none():
    draw = np.random.default_rng(8)
    valley = np.concatenate([draw.exponential(size=5000), 14 + draw.normal(size=300)])
    assert estimate_of("consensus", valley) == NOBODY
    assert estimate_of("dao", valley) == estimate(valley) != NOBODY
    steps = np.linspace(0, SURE, 500)  # one population, however high it reaches
    assert estimate_of("dao", steps) == estimate(steps) == NOBODY


@settings(deadline=None, max_examples=50)
@given(ANY, st.lists(st.sampled_from([np.nan, LOOK, DROP, SURE]), max_size=20))
def test_any_consensus_has_an_estimate_within_its_bounds(scores, steps):
    found = estimate_of("consensus", scores + steps)
    assert 0 <= found.fewest <= found.number <= found.most <= len(scores + steps)
    assert found == NOBODY or found.number == sum(one >= found.border for one in scores + steps)


@pytest.mark.parametrize("found", [NOBODY, Estimate(28, 7, 31, DROP)])
def test_an_estimate_comes_back_from_its_record(found):
    assert Estimate.of(json.loads(json.dumps(found.record(), allow_nan=False))) == found
