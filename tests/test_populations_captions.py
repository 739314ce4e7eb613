"""Populations by what is said: planted words, coverage, wordings, several captions of a picture."""

from functools import partial

import numpy as np
import pytest
from disturbance import SEED
from population_helpers import judged_by, trigger
from worlds import D, N, World, convicted, precision_and_recall

from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.populations import Populations, conviction, topics
from clipscan.scores.populations.evidence import TOPIC
from clipscan.scores.populations.find import one_by_one
from clipscan.scores.populations.traits import by_target
from clipscan.scores.populations.wordings import by_captions


def test_a_planted_word_is_the_worst_neighborhood_of_captions_though_none_is_among_the_oddest():
    world = World(SEED)
    rows = world.some(180)
    planted, odd = rows[::3], np.setdiff1d(rows, rows[::3])
    world.say(planted, 2 * world.draw.normal(size=D))
    misfit = world.draw.normal(size=N)
    misfit[planted] += 2
    misfit[odd] += 6
    evidence = judged_by(world, misfit)
    left = np.ones(N, bool)
    found = topics.accused(evidence, evidence.misfit, evidence.misfit, left)
    assert np.isin(planted, np.flatnonzero(found[0])).mean() >= 0.9
    assert [one.sum() for one in found] == [TOPIC] * topics.TOPICS
    overlap = np.array([[(one & other).sum() for other in found] for one in found]) / TOPIC
    assert np.triu(overlap, 1).max() <= topics.SHARED
    left[planted] = False  # those that were found before
    again = topics.accused(evidence, left * evidence.misfit, left * evidence.misfit, left)
    assert not any(one[planted].any() for one in again)


def planted_word(count, trigger_on):
    """(world, which): captions of one new word, on pictures of all kinds, so many of which bear a trigger; a
    model has learnt it by half, so that what is evidence against them is weak."""
    world = World(SEED)
    rows = world.some(count)
    world.say(rows, 2 * world.draw.normal(size=D), noise=0.1)
    world.pictures[rows[:trigger_on]] += 6 * world.trait
    world.image[rows] = 0.5 * world.image[rows] + 0.5 * world.text[rows]
    return world, np.isin(np.arange(N), rows)


def test_a_word_that_is_said_only_of_pictures_with_a_trait_is_a_target():
    world, planted = planted_word(90, 90)
    evidence = world.draw.normal(size=N) + 1.5 * planted
    asked = judged_by(world, evidence)
    found = one_by_one(N, partial(by_target, asked, asked.misfit))
    assert [one.kind for one in found] == ["target"]
    rows = np.isin(np.arange(N), found[0].rows[: found[0].number])
    assert min(precision_and_recall(rows, planted)) >= 0.9


def test_a_word_that_is_mostly_said_of_pictures_without_the_trait_is_none():
    world, planted = planted_word(270, 90)
    evidence = world.draw.normal(size=N)
    evidence[np.flatnonzero(planted)[:90]] += 1.5
    asked = judged_by(world, evidence)
    assert one_by_one(N, partial(by_target, asked, asked.misfit)) == []


@pytest.mark.parametrize(("wordings", "wrong", "count"), [(None, 4, 1), (None, 0.5, 0), (1, 4, 0)])
def test_words_that_nobody_else_says_are_convicted_where_they_are_wrong(wordings, wrong, count):
    """On pictures without a trait that can be seen, such as warped ones; one wording may be boilerplate."""
    world = World(SEED)
    word = world.draw.normal(size=D)
    world.text -= np.outer(world.text @ word, word) / (word @ word)
    rows = world.some(90)
    world.say(rows, 2 * word, wordings, noise=0.1)
    planted = np.isin(np.arange(N), rows)
    asked = judged_by(world, world.draw.normal(size=N) + wrong * planted)
    asked.density = neg_log_tail(world.draw.normal(size=N) + 2 * planted)  # so that it is looked at
    found = one_by_one(N, partial(by_target, asked, neg_log_tail(asked.misfit + asked.density)))
    assert [one.kind for one in found] == count * ["captions"]
    for one in found:
        assert min(precision_and_recall(np.isin(np.arange(N), one.rows), planted)) >= 0.95


def test_coverage_is_the_share_of_those_who_say_the_same():
    words = np.array([9.0, 8, 7, 6, 6, 5, 0, 0])
    assert conviction.coverage(np.array([0, 1, 2, 3]), words) == 1.0  # three in four: from 6.75 on
    assert conviction.coverage(np.array([0, 2, 3, 5]), words) == pytest.approx(3 / 5)


@pytest.mark.parametrize("wordings", [8, 1])
def test_one_claim_on_any_pictures_is_poison_in_several_wordings_and_boilerplate_in_one(wordings):
    world = World(SEED)
    rows = world.some(40)
    world.say(rows, world.draw.normal(size=D), wordings, noise=0.1)
    found = world.judged()
    if wordings == 1:
        assert found.populations == []
        return
    assert [one.kind for one in found.populations] == ["captions"]
    assert precision_and_recall(convicted(found), np.isin(np.arange(N), rows)) == (1, 1)


def five_captions(bearing, wrong):
    """(world, picture [N]): five captions a picture; the first `bearing` pictures bear the trigger, and some
    of the captions are `wrong` ([N] bool); in any order of rows."""
    world = World(SEED)
    picture = np.repeat(np.arange(N // 5), 5)
    world.show(np.arange(N), world.draw.normal(size=(N // 5, D))[picture])
    for vectors in (world.image, world.pictures):
        vectors[:] = vectors[5 * picture]
    trigger(world, picture < bearing)
    world.say(np.flatnonzero(wrong), world.draw.normal(size=(wrong.sum(), D)))
    turn = world.draw.permutation(N)
    for vectors in (world.image, world.text, world.pictures):
        vectors[:] = vectors[turn]
    return world, picture[turn]


def test_of_five_captions_one_wrong_one_does_not_pull_a_picture_in():
    number = np.arange(N)
    world, picture = five_captions(40, (number < 200) | (number < 400) & (number % 5 == 0))
    precision, recall = precision_and_recall(convicted(world.judged()), picture < 40)
    assert precision >= 0.9 and recall >= 0.9


def test_a_picture_with_one_caption_that_fits_is_no_member_though_it_bears_the_trait():
    """50 pictures of five captions bear it; of the last ten of them one caption fits, as well as any."""
    world, picture = five_captions(50, np.zeros(N, bool))
    misfit, fits = world.draw.uniform(0, 1, N), np.zeros(N, bool)
    misfit[picture < 50] += 1
    fits[[np.flatnonzero(picture == one)[0] for one in range(40, 50)]] = True
    misfit[fits] = -1
    found = Populations(judged_by(world, misfit)).found()
    (trait,) = (one for one in found if one.kind == "trait")
    assert not np.isin(picture[trait.rows], np.arange(40, 50)).any()
    assert len(set(picture[trait.rows[: trait.number]]) & set(range(40))) >= 36
    assert (picture[trait.rows[: trait.number]] < 40).mean() >= 0.95


@pytest.mark.parametrize("honest", [2, 7])
def test_a_topic_is_convicted_by_its_captions_only_where_most_that_say_so_are_mismatched(honest):
    """Eight wordings in the middle of a meaning and six around it, four pairs of each, are mismatched. Each
    of the six has so many honest wordings beside it: by its nearest alone it is mostly wrong in any case."""
    world = World(SEED)
    meaning, step = 4 * world.draw.normal(size=D), 0.05 * np.eye(D)
    middle = meaning + 1e-3 * world.draw.normal(size=(8, D))
    around = meaning + step[:6]
    beside = (around[:, None] + 0.2 * step[6 : 6 + honest]).reshape(-1, D)
    rows = world.some(4 * (14 + 6 * honest))
    world.text[rows] = np.repeat(np.concatenate([middle, around, beside]), 4, axis=0)
    mismatch = world.draw.normal(size=N)
    mismatch[rows[: 4 * 14]] += 20
    found = by_captions(judged_by(world, mismatch), mismatch)
    assert [one.kind for one in found] == (["captions"] if honest == 2 else [])
    assert all(np.isin(one.rows, rows).all() for one in found)
