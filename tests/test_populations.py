"""Populations in generated worlds: whoever was planted is convicted, whoever is merely rare is not."""

import json
from functools import partial

import numpy as np
import pytest
from planted import SEED
from worlds import D, K, N, World, convicted, precision_and_recall

from clipscan.engine import as_rows
from clipscan.scores.local import Searcher
from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.pairs import Pairs
from clipscan.scores.populations import (
    Evidence,
    Population,
    Populations,
    change_point,
    conviction,
    populated,
    topics,
)
from clipscan.scores.populations.collapse import by_collapse
from clipscan.scores.populations.evidence import SEEDS
from clipscan.scores.populations.find import one_by_one
from clipscan.scores.populations.traits import by_target, by_trait
from clipscan.scores.populations.wordings import by_captions
from clipscan.scores.references import identify_pairs
from clipscan.scores.scaled import Scaled, fitted_rows


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


def trigger(world, rows):
    """The pictures of these rows bear what no caption speaks of."""
    world.pictures[rows] += 6 * world.trait


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
    rows = world.some(160)
    world.say(rows, world.draw.normal(size=(160, D)))
    trigger(world, rows[::2])
    world.pictures[rows[1::2]] += 6 * other / np.linalg.norm(other)
    found = world.judged()
    assert {one.kind for one in found.populations} == {"trait"}
    precision, recall = precision_and_recall(convicted(found), np.isin(np.arange(N), rows))
    assert precision >= 0.9 and recall >= 0.9


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
    assert [one.sum() for one in found] == [topics.TOPIC] * topics.TOPICS
    overlap = np.array([[(one & other).sum() for other in found] for one in found]) / topics.TOPIC
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


def test_near_copies_of_a_placeholder_under_any_captions_are_no_trait():
    world = World(SEED)
    rows = world.some(60)
    for vectors in (world.image, world.pictures):
        vectors[rows] = vectors[rows[0]] + 0.01 * world.draw.normal(size=(60, vectors.shape[1]))
    assert world.judged().populations == []


def judged_by(world, misfit):
    """The evidence where a witness says `misfit` [N], and the other scores say nothing."""
    image, text, pictures = (as_rows(x.astype(np.float32)) for x in (world.image, world.text, world.pictures))
    identity = identify_pairs(image, text)
    features = Scaled([pictures, image], fitted_rows(identity.code))
    others = (neg_log_tail(world.draw.normal(size=N)) for _ in range(2))
    shown = world.pictures @ np.linalg.pinv(world.looks)
    pairs = Pairs(image, text, pictures, identity, Searcher(K))
    shown /= shown.std(axis=0)
    return Evidence(pairs, features, *others, neg_log_tail(misfit), shown, True)


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


@pytest.mark.parametrize("separate", [conviction.SEPARATE, 0])
def test_what_all_pictures_have_by_degrees_is_no_trait_of_some(monkeypatch, separate):
    monkeypatch.setattr(conviction, "SEPARATE", separate)
    world = World(SEED)
    degree = world.draw.normal(size=N)
    world.pictures += 3 * degree[:, None] * world.trait
    found = Populations(judged_by(world, world.draw.normal(size=N) + 5 * (degree > 2))).found()
    assert {one.kind for one in found} == (set() if separate else {"trait"})


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


def test_the_number_lies_between_the_first_and_the_last_likely_end():
    total = np.concatenate([np.full(1000, -4.0), [-2.0, 0.0, -1.0], np.full(1000, -9.0)])
    first, number, last = change_point.ends(total)  # the plateau before has most of the posterior
    assert (first, number, last) == (1000, 1000, 1002)
    assert change_point.ends(np.array([-50.0, -2.0, 0.0, -2.0, -50.0])) == (1, 2, 3)


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
    (found,) = one_by_one(N, partial(by_trait, evidence, evidence.misfit))
    assert found.kind == "trait"
    assert not np.isin(others, found.rows[: found.number]).any()
    assert np.isin(planted, found.rows[: found.number]).mean() >= 0.9
    assert np.isin(others, found.rows).mean() >= 0.9 and found.most == len(found.rows)


@pytest.mark.parametrize("wrong", [30, 80])
def test_a_topic_is_convicted_by_its_captions_only_where_most_that_say_so_are_mismatched(wrong):
    """Wordings of one meaning, 10 pairs of each; all pairs of a few of them are mismatched, or of most."""
    world = World(SEED)
    rows = world.some(100)
    meaning = 4 * world.draw.normal(size=D)
    said = meaning + 0.05 * world.draw.normal(size=(10, D))
    world.text[rows] = np.repeat(said, 10, axis=0)
    mismatch = world.draw.normal(size=N)
    mismatch[rows[:wrong]] += 20
    evidence = judged_by(world, mismatch)
    found = by_captions(evidence, mismatch)
    assert [one.kind for one in found] == (["captions"] if wrong == 80 else [])
    assert all(np.isin(one.rows, rows).all() for one in found)
