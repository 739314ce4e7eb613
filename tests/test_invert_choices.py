"""Parts of the recovery: masks and their cost, target, controls and rivals, and when a trigger is one."""

from collections import Counter

import numpy as np
import pytest

from clipscan.engine.arrays import normalised
from clipscan.errors import RunError
from clipscan.invert.caption_families import DistinctCaptions, agreeing, controls, spread
from clipscan.invert.contest import Target, contest
from clipscan.invert.trigger import Trigger, stamp
from clipscan.invert.verdict import Comparison, Outcome, most_telling, verdict
from clipscan.report import recovered_triggers


def test_a_patch_lies_whole_inside_every_picture_and_leaves_the_rest_alone():
    pictures = np.full((50, 8, 8, 3), 100, np.uint8)
    trigger = Trigger(np.ones((4, 4, 1), np.float32), np.zeros((4, 4, 3), np.float32))
    stamped = stamp(pictures, trigger, seed=0)
    assert (pictures == 100).all()
    assert set(np.unique(stamped)) == {0, 100} and ((stamped == 0).sum(axis=(1, 2, 3)) == 4 * 4 * 3).all()
    assert len({one.tobytes() for one in stamped}) > 10  # the places differ
    assert np.array_equal(stamped, stamp(pictures, trigger, seed=0))


def test_a_faint_mask_mixes_and_is_rounded_as_a_file_would_be():
    picture = np.full((1, 4, 4, 3), 101, np.uint8)
    trigger = Trigger(np.full((4, 4, 1), 0.25, np.float32), np.ones((4, 4, 3), np.float32))
    assert (stamp(picture, trigger, 0) == round(0.25 * 255 + 0.75 * 101)).all()


def test_cost_is_area_times_strength():
    one_pixel = np.zeros((4, 4, 1), np.float32)
    one_pixel[0, 0, 0] = 0.5
    for mask, area, strength in [(one_pixel, 1 / 64, 0.5), (np.full((8, 8, 1), 0.1, np.float32), 1, 0.1)]:
        trigger = Trigger(mask, np.zeros((*mask.shape[:2], 3), np.float32))
        assert trigger.area(8) == pytest.approx(area) and trigger.strength() == pytest.approx(strength)
        assert trigger.cost(8) == pytest.approx(area * strength)
    nothing = Trigger(np.zeros((4, 4, 1), np.float32), np.zeros((4, 4, 3), np.float32))
    assert (nothing.cost(8), nothing.area(8), nothing.strength()) == (0, 0, 0)


def words(directions):
    """Captions "c0" ... whose vectors stand 0.3 from a common direction, as CLIP's stand in a cone."""
    cone = np.array([[0, 0, 0, 3.0]], np.float32)
    vectors = normalised(np.asarray(directions, np.float32) + cone)
    names = [f"c{i}" for i in range(len(vectors))]
    return DistinctCaptions(
        names, np.arange(1, len(names) + 1) * 10, vectors, normalised(cone)[0] * 0.95, 1.0
    )


AXES = [[1, 0, 0, 0], [1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 0], [0, 0, -1, 0]]


def test_strays_in_a_group_do_not_speak_for_it():
    known = words(AXES)
    rows, share = agreeing(Counter({"c0": 40, "c1": 20, "c3": 3}), known.vectors[[0, 1, 3]], known.centre)
    assert rows == [0, 1] and share == pytest.approx(60 / 63)
    rows, share = agreeing(Counter("abcd"), known.vectors[[0, 4, 3, 5]], known.centre)
    assert rows == [0] and share == 0.25  # nothing in common: the commonest alone


def test_controls_are_about_other_things_and_as_frequent_as_can_be():
    known = words(AXES)
    assert known.family(known.vectors[:1]) == 10 + 20
    assert controls(known, known.vectors[:1], 40, 2, set()) == [3, 4]  # c3 occurs 40 times, c4 50
    assert controls(known, known.vectors[:1], 40, 2, {"c3"}) == [4, 2]
    assert controls(known, known.vectors[:1], 40, 9, {"c3"}) == [4, 2, 5, 3]  # what is left


def test_rivals_lie_far_apart_and_none_says_what_the_target_says():
    known = words(AXES)
    assert spread(known.vectors, 4).tolist()[:2] == [0, 4] and len(spread(known.vectors[[0, 0, 0]], 3)) == 1
    match = contest(Target(["c0"], 10, known.vectors[:1]), known)
    assert match.own == 1 and len(match.text) == 1 + 4  # c1 is neither right nor wrong
    assert match.won(known.vectors[[0, 2, 4]]).tolist() == [True, False, False]
    with pytest.raises(RunError, match="nothing to tell a success by"):
        contest(Target(["c0"], 10, known.vectors[:1]), words(AXES[:3]))


def outcome(success, cost, reached=True):
    return Outcome("a", 10, 0.0, success, cost, cost, 1.0, reached)


def test_only_a_trigger_that_works_and_costs_less_than_every_control_is_one():
    like = Comparison("anywhere", outcome(0.95, 0.01), [outcome(0.95, 0.2), outcome(0.95, 0.1)])
    not_so = Comparison("faint", outcome(0.99, 0.1), [outcome(0.95, 0.1), outcome(0.1, 0.05, reached=False)])
    failed = Comparison("fixed", outcome(0.5, 0.01), [outcome(0.95, 0.5)])
    assert like.cheapest == 1 and like.ratio == pytest.approx(10)
    assert not_so.cheapest == 0 and not_so.ratio == pytest.approx(1)  # the unreached one was no cheaper way
    hard = Comparison("anywhere", outcome(0.95, 0.05), [outcome(0, c, reached=False) for c in (0.03, 0.2)])
    assert hard.cheapest == 1 and hard.ratio == pytest.approx(4)  # tried in vain on a fifth of the picture
    assert np.isnan(failed.ratio)
    assert most_telling([not_so, failed, like]) is like
    assert verdict([not_so, failed, like]) == recovered_triggers.LIKE == "trigger-like"
    assert verdict([not_so, failed]) == recovered_triggers.NOT
    assert verdict([failed]) == recovered_triggers.NONE
    assert verdict([Comparison("anywhere", outcome(0.95, 0.01), [])]) == recovered_triggers.NOT
