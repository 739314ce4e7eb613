"""Populations in generated worlds: whoever was planted is convicted, whoever is merely rare is not."""

import json

import numpy as np
import pytest
from disturbance import SEED
from population_helpers import trigger
from worlds import D, N, World, convicted, precision_and_recall

from clipscan.scores.populations import Population, populated, topics  # noqa: F401


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_convicted_where_all_are_honest(seed):
    found = World(3 * SEED + seed).judged()
    assert found.populations == []
    assert found.score.max() < np.log(2 * N) + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_no_honest_topic_is_convicted_where_topics_are_far_apart(seed):
    """The witness foretells the same of every topic, so many of them seem to be said wrongly as a whole."""
    world = World(4 * SEED + seed)
    topics = 2 * world.draw.normal(size=(20, D))
    world.show(np.arange(N), topics[world.draw.integers(0, 20, N)] + world.draw.normal(size=(N, D)))
    assert world.judged().populations == []


def alone(fits):
    """(world, which): 20 pictures of one kind, alone in the eyes of the suspect model, and captions of one
    kind; the pictures show what the captions say, or anything."""
    world = World(SEED)
    rows = world.some(20)
    topic = 3 * world.draw.normal(size=D)
    shown = topic + 0.6 * world.draw.normal(size=(20, D))
    world.image[rows] = shown
    world.say(rows, topic, noise=0.3)
    if fits:
        world.seen(rows, shown)
    return world, np.isin(np.arange(N), rows)


def test_a_rare_topic_that_is_alone_and_said_alike_is_acquitted_by_its_pictures():
    world, rare = alone(fits=True)
    found = world.judged()
    assert found.populations == []
    assert np.median(found.score[rare]) > 2  # it does stand out


def test_a_group_that_is_alone_is_convicted_where_its_pictures_show_something_else():
    world, planted = alone(fits=False)
    found = world.judged()
    precision, recall = precision_and_recall(convicted(found), planted)
    assert precision >= 0.8 and recall >= 0.9
    assert found.score[planted].min() > 30


def test_without_captions_a_group_as_alone_as_can_be_is_convicted():
    world, group = alone(fits=False)
    found = world.judged(text=False)
    (population,) = found.populations
    assert found.misfit is None
    assert population.kind == "density" and np.isnan([population.misfit, population.null_share]).all()
    precision, recall = precision_and_recall(convicted(found), group)
    assert precision >= 0.8 and recall >= 0.9
    assert json.loads(json.dumps(population.record(), allow_nan=False))["misfit"] is None


def test_wrong_captions_that_share_a_trigger_are_told_from_those_that_do_not():
    world = World(SEED)
    wrong = world.some(160)
    world.say(wrong, world.draw.normal(size=(160, D)))
    planted = np.isin(np.arange(N), wrong[::2])
    trigger(world, planted)
    found = world.judged()
    assert [one.kind for one in found.populations] == ["trait"]
    precision, recall = precision_and_recall(convicted(found), planted)
    assert precision >= 0.9 and recall >= 0.9
    (population,) = found.populations
    assert population.fewest <= population.number <= population.most == len(np.unique(population.rows))
    assert population.pictures == population.number and population.null_share <= 0.1
    assert population.bearing[planted].min() > np.log(5) > np.median(population.bearing[~planted])


def test_two_triggers_are_both_found():
    world = World(SEED)
    other = World(SEED + 1).trait
    other -= world.looks.T @ np.linalg.lstsq(world.looks.T, other, rcond=None)[0]
    other -= (other @ world.trait) * world.trait
    rows = world.some(160)
    world.say(rows, world.draw.normal(size=(160, D)))
    trigger(world, rows[::2])
    world.pictures[rows[1::2]] += 6 * other / np.linalg.norm(other)
    found = world.judged()
    assert {one.kind for one in found.populations} == {"trait"}
    precision, recall = precision_and_recall(convicted(found), np.isin(np.arange(N), rows))
    assert precision >= 0.9 and recall >= 0.9


def population(rows, number):
    return Population("trait", np.array(rows), 1, number, len(rows), number, 3.5, 0.25, np.zeros(9))


def test_a_row_counts_with_the_first_population_that_convicts_it():
    found = [population([4, 2, 7], 2), population([7, 2, 0, 1], 3)]
    assert populated(found, 9).tolist() == [1, -1, 0, -1, 0, -1, -1, 1, -1]
    assert populated([], 3).tolist() == [-1, -1, -1]


def test_a_record_has_everything_but_the_rows():
    record = json.loads(json.dumps(population([4, 2, 7], 2).record()))
    figures = {"fewest": 1, "number": 2, "most": 3, "pictures": 2, "misfit": 3.5, "null_share": 0.25}
    assert record == {"kind": "trait", **figures}
