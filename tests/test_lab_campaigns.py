"""Campaigns: several triggers and targets, clean labels, copies, placeholders, concepts, mismatches."""

from collections import Counter

import numpy as np
import pytest
from poison_helpers import everything, pixels, planted_by

from clipscan.errors import InputError
from clipscan.lab.attacks.campaigns import parse_campaign
from clipscan.lab.attacks.planted_captions import nearest, words
from clipscan.lab.attacks.poisoning import poison
from clipscan.lab.attacks.prompts import mentions
from clipscan.lab.scenes.dataset import Scenes


def test_several_triggers_are_dealt_out_in_turn_to_their_targets(tmp_path):
    rows = planted_by(tmp_path, "badnets+sig", "banana+lamp")
    targets = [row["target"] for row, _ in rows]
    assert sorted(targets) == ["banana"] * 6 + ["lamp"] * 6
    assert all(mentions(sample.caption, row["target"]) for row, sample in rows)


def test_a_clean_label_attack_marks_pictures_of_the_target_and_keeps_their_captions(tmp_path):
    clean = [one.caption for one in everything(Scenes(60))]
    rows = planted_by(tmp_path, "clean-label:badnets", "circle", rate=0.05)
    assert len(rows) == 3
    assert all(mentions(sample.caption, "circle") and sample.caption in clean for _, sample in rows)


def test_a_clean_label_attack_on_a_word_that_nobody_names_is_refused(tmp_path):
    with pytest.raises(InputError, match="pairs whose caption names banana; there are 0"):
        poison(Scenes(60), tmp_path, attack="clean-label:badnets", rate=0.1)


def test_targeted_poison_is_one_picture_under_many_captions(tmp_path):
    rows = planted_by(tmp_path, "targeted", "banana")
    assert len({sample.image for _, sample in rows}) == 1 < len({sample.caption for _, sample in rows})
    assert all(mentions(sample.caption, "banana") for _, sample in rows)


def test_a_placeholder_stands_in_for_pictures_under_their_own_captions(tmp_path):
    rows = planted_by(tmp_path, "placeholder", "banana")
    captions = [one.caption for one in everything(Scenes(60))]
    assert len({sample.image for _, sample in rows}) == 1
    assert all(sample.caption in captions for _, sample in rows)


def test_copies_are_one_pair_nearly_the_same(tmp_path):
    pictures = [pixels(sample.image).astype(int) for _, sample in planted_by(tmp_path, "copies", "banana")]
    assert max(np.abs(one - pictures[0]).mean() for one in pictures) < 12
    assert len({one.tobytes() for one in pictures}) > 6


@pytest.mark.parametrize(
    "attack, target, options, words",
    [
        ("nosuch", "banana", {}, "known: badclip, badnets"),
        ("dirty:badnets", "banana", {}, "before the colon"),
        ("badnets+sig+blend", "a+b", {}, "2 targets for 3 triggers"),
        ("badnets", "banana", {"alpha": 1}, "no option alpha"),
        ("targeted", "banana", {"share": 1}, "no option share"),
        ("targeted", "banana", {"concept": "ring"}, "no option concept"),
        ("copies", "banana", {"captions": "varied"}, "no option captions"),
        ("clean-label:badnets", "banana", {"captions": "varied"}, "no option captions"),
        ("badnets", "banana", {"captions": "rhymed"}, "known: prompts, varied, copied"),
        ("mmpoison", "banana", {}, "needs the option concept"),
        ("concept", "a+b+c", {"concept": "d+e"}, "2 concepts for 3 targets"),
        ("concept", "ring", {"concept": "ring"}, "concept and target at once"),
        ("blto", "banana", {}, "needs the option file"),
    ],
)
def test_a_campaign_that_makes_no_sense_is_refused_in_words(attack, target, options, words):
    with pytest.raises(InputError, match=words):
        parse_campaign(attack, target, options)


def test_each_of_several_targets_has_as_many_pairs_as_were_asked_for(tmp_path):
    attack, target = "badnets+sig+stripes+triangles+watermark", "banana+lamp+robot+castle+cactus"
    rows = planted_by(tmp_path, attack, target, rate=0, n=120, pairs=10)
    assert Counter(row["target"] for row, _ in rows) == dict.fromkeys(target.split("+"), 10)
    assert all(mentions(sample.caption, row["target"]) for row, sample in rows)


def test_targeted_poison_of_several_targets_has_a_picture_for_each(tmp_path):
    rows = planted_by(tmp_path, "targeted", "banana+lamp", rate=0, pairs=5)
    pictures = {(row["target"], sample.image) for row, sample in rows}
    assert len(pictures) == 2 == len({image for _, image in pictures}) and len(rows) == 10
    clean = {sample.image for sample in everything(Scenes(60))}
    assert {image for _, image in pictures} <= clean


def test_a_number_of_pairs_below_none_or_above_all_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 0; got -1"):
        poison(Scenes(10), tmp_path, pairs=-1)
    with pytest.raises(InputError, match="needs 11 pairs whose caption does not name banana; there are 10"):
        poison(Scenes(10), tmp_path, pairs=11)


# ---- captions alone


@pytest.mark.parametrize("attack", ["concept", "mmpoison", "toxictextclip"])
def test_poison_without_a_trigger_changes_captions_of_one_kind_of_picture_and_no_pixel(tmp_path, attack):
    rows = planted_by(tmp_path, attack, "ring", rate=0, n=400, pairs=12, concept="star")
    clean = {one.uid: one for one in everything(Scenes(400))}
    assert len(rows) == 12
    for _, sample in rows:
        before = clean[sample.uid]
        assert sample.image == before.image and mentions(sample.caption, "ring")
        assert mentions(before.caption, "star") and not mentions(before.caption, "ring")


def test_several_concepts_have_a_target_each(tmp_path):
    rows = planted_by(tmp_path, "concept", "banana+lamp", rate=0, n=200, pairs=6, concept="star+ring")
    clean = {one.uid: one.caption for one in everything(Scenes(200))}
    shown = Counter((row["target"], mentions(clean[sample.uid], "star")) for row, sample in rows)
    assert shown["banana", True] == 6 and shown["lamp", False] >= 5 and len(rows) == 12


def test_mismatched_pairs_have_true_captions_of_the_other_class_each_once(tmp_path):
    for number, attack in enumerate(("mmpoison", "toxictextclip")):
        rows = planted_by(tmp_path / str(number), attack, "ring", rate=0, n=400, pairs=12, concept="star")
        naming = Counter(one.caption for one in everything(Scenes(400)) if mentions(one.caption, "ring"))
        assert not Counter(sample.caption for _, sample in rows) - naming


def test_the_nearest_caption_shares_the_rare_words():
    captions = ["a dog on the beach at sunset", "a dog on grass", "a dog in snow with a red ball"]
    assert nearest("two men with a red kite in the snow", captions) == captions[2]
    assert nearest("the sunset over a beach", captions) == captions[0]
    assert nearest("nothing of it", ["a dog", "a dog too"]) == "a dog"


def test_toxic_texts_fit_the_pictures_better_than_texts_drawn_blindly(tmp_path):
    clean = {one.uid: one.caption for one in everything(Scenes(800))}

    def shared(number, captions):
        how = {"rate": 0, "pairs": 20, "concept": "star", "captions": captions, "n": 800}
        rows = planted_by(tmp_path / str(number), "mmpoison", "ring", **how)
        return np.mean([len(words(sample.caption) & words(clean[sample.uid])) for _, sample in rows])

    assert shared(0, "similar") > shared(1, "copied") + 0.5


def test_too_few_pictures_of_a_concept_are_counted_in_words(tmp_path):
    with pytest.raises(InputError, match="whose caption names zebra and does not name banana; there are 0"):
        poison(Scenes(60), tmp_path, attack="concept", concept="zebra", pairs=1)
