"""Populations by what pictures have in common: who bears a trait, and what a model no longer tells apart."""

from functools import partial

import numpy as np
import pytest
from disturbance import SEED
from population_helpers import judged_by, trigger
from worlds import D, N, World, convicted, precision_and_recall

from clipscan.scores.populations import Populations, change_point, conviction
from clipscan.scores.populations.collapse import by_collapse
from clipscan.scores.populations.divided_topics import DividedTopics
from clipscan.scores.populations.evidence import SEEDS
from clipscan.scores.populations.find import one_by_one
from clipscan.scores.populations.traits import by_trait


def test_whoever_bears_a_trait_less_than_half_as_much_is_no_member():
    """Evidence goes on after the trait has ended: the number ends with the trait, the rest may belong."""
    world = World(SEED)
    asked = judged_by(world, world.draw.normal(size=N))
    trait = np.concatenate([np.full(80, 10.0), np.full(40, 4.0), np.linspace(1, 0, N - 120)])
    one = asked.up_to_change("trait", trait, np.where(np.arange(N) < 120, 4.0, 0.9), trait)
    assert one is not None and one.number == 80 and set(one.rows[:80]) == set(range(80))
    assert one.most >= 120
    again = asked.up_to_change("target", trait, np.where(np.arange(N) < 120, 4.0, 0.9))
    assert again is not None and again.number == 120


def common(count, diverse):
    """(world, which): pictures and captions of one kind, so often that none of them is alone. The suspect
    model tells these pictures hardly apart. They differ as much as others do, beside a trigger, or little."""
    world = World(SEED)
    rows, topic = world.some(count), 2 * world.draw.normal(size=D)
    world.say(rows, topic)
    world.image[rows] = topic + 0.3 * world.draw.normal(size=(count, D))
    if diverse:
        trigger(world, rows)
    else:
        world.seen(rows, topic + 0.3 * world.draw.normal(size=(count, D)))
    return world, np.isin(np.arange(N), rows)


@pytest.mark.parametrize("count", [150, 400])
def test_a_learnt_trigger_is_a_collapse_however_many_bear_it(count):
    world, planted = common(count, diverse=True)
    asked = judged_by(world, world.draw.normal(size=N))
    (one,) = one_by_one(N, partial(by_collapse, asked))
    assert one.kind == "collapse" and one.fewest == one.number == one.most
    assert min(precision_and_recall(np.isin(np.arange(N), one.rows), planted)) >= 0.95
    assert min(precision_and_recall(convicted(world.judged()), planted)) >= 0.95


@pytest.mark.parametrize("count", [150, 400])
def test_an_honest_topic_that_a_model_has_learnt_is_no_collapse(count):
    world, _ = common(count, diverse=False)
    asked = judged_by(world, world.draw.normal(size=N))
    assert by_collapse(asked, np.ones(N, bool)) == []


def test_contraction_is_how_much_less_a_model_tells_apart_than_is_shown():
    world, _ = common(150, diverse=True)
    rows = np.arange(0, N, 5)
    world.image[rows] = 10 + world.image[rows]
    asked = judged_by(world, world.draw.normal(size=N)).conviction
    spread = [1 - (np.linalg.norm((x / np.linalg.norm(x, axis=1)[:, None]).mean(axis=0)) ** 2)
              for x in (world.image[rows], world.image)]  # fmt: skip
    assert spread[1] > 2 * spread[0]
    for some, share in ((np.arange(N), 1), (rows, spread[0] / spread[1])):
        shown = np.median(np.linalg.eigvalsh(np.cov(asked.shown[some], rowvar=False)))
        assert asked.contraction(some) == pytest.approx(shown / share, rel=0.1)


def test_near_copies_of_a_placeholder_under_any_captions_are_no_trait():
    world = World(SEED)
    rows = world.some(60)
    for vectors in (world.image, world.pictures):
        vectors[rows] = vectors[rows[0]] + 0.01 * world.draw.normal(size=(60, vectors.shape[1]))
    assert world.judged().populations == []


@pytest.mark.parametrize("separate", [conviction.SEPARATE, 0])
def test_what_all_pictures_have_by_degrees_is_no_trait_of_some(monkeypatch, separate):
    monkeypatch.setattr(conviction, "SEPARATE", separate)
    world = World(SEED)
    degree = world.draw.normal(size=N)
    world.pictures += 3 * degree[:, None] * world.trait
    found = Populations(judged_by(world, world.draw.normal(size=N) + 5 * (degree > 2))).found()
    assert {one.kind for one in found} == (set() if separate else {"trait"})


def test_the_number_lies_between_the_first_and_the_last_likely_end():
    total = np.concatenate([np.full(1000, -4.0), [-2.0, 0.0, -1.0], np.full(1000, -9.0)])
    first, number, last = change_point.ends(total)  # the plateau before has most of the posterior
    assert (first, number, last) == (1000, 1000, 1002)
    assert change_point.ends(np.array([-50.0, -2.0, 0.0, -2.0, -50.0])) == (1, 2, 3)


def test_of_a_trait_those_that_say_something_else_only_may_belong():
    """60 bear the trigger and say one word; of 12 others that bear it captions are wrong in other ways."""
    world = World(SEED)
    rows = world.some(72)
    planted, others = rows[:60], rows[60:]
    trigger(world, rows)
    world.say(planted, 3 * world.draw.normal(size=D), noise=0.2)
    world.say(others, world.draw.normal(size=(12, D)))
    misfit = world.draw.exponential(size=N)
    misfit[rows] += 8
    evidence = judged_by(world, misfit)
    (found,) = one_by_one(N, partial(by_trait, evidence, evidence.misfit, DividedTopics(evidence)))
    assert found.kind == "trait"
    assert not np.isin(others, found.rows[: found.number]).any()
    assert np.isin(planted, found.rows[: found.number]).mean() >= 0.9
    assert np.isin(others, found.rows).mean() >= 0.9 and found.most == len(found.rows)


@pytest.mark.parametrize("copies", [0, 100])
def test_seeds_are_the_highest_rows_of_different_pictures(copies):
    world = World(SEED)
    rows = world.some(copies) if copies else np.zeros(0, int)
    for vectors in (world.image, world.pictures):
        vectors[rows] = (vectors[rows[0]] if copies else 0) + 0.01 * world.draw.normal(
            size=(copies, vectors.shape[1])
        )
    asked, values = judged_by(world, np.zeros(N)), np.round(world.draw.normal(size=N), 1)
    values[rows] += 20
    highest = asked.pairs.highest_first(values)
    for most in (1, 40, 500, N, 2 * N):  # among equal values too
        assert asked.pairs.highest_first(values, most=most).tolist() == highest[:most].tolist()
    seeds = np.flatnonzero(asked.top(values))
    expected = np.append(highest[0], highest[copies:]) if copies else highest
    assert sorted(seeds) == sorted(expected[: len(seeds)]) and len(seeds) >= SEEDS[0]
