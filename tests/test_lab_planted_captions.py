"""Captions of poisoned pairs: copied, worded, scattered or appended, as was asked."""

from collections import Counter

import numpy as np
import pytest
from poison_helpers import everything, planted_by
from typer.testing import CliRunner

from clipscan.cli import app
from clipscan.errors import InputError
from clipscan.lab.attacks.poisoning import poison, read_truth
from clipscan.lab.attacks.prompts import mentions
from clipscan.lab.scenes.dataset import Scenes


def test_copied_captions_are_those_of_clean_pairs_that_name_the_target_each_as_often(tmp_path):
    naming = [one.caption for one in everything(Scenes(200)) if mentions(one.caption, "ring")]
    rows = planted_by(tmp_path, "badnets", "ring", rate=0, n=200, pairs=10, captions="copied")
    copied = [sample.caption for _, sample in rows]
    assert len(rows) == 10 and not Counter(copied) - Counter(naming)
    before = {one.uid: one for one in everything(Scenes(200))}
    assert not any(mentions(before[sample.uid].caption, "ring") for _, sample in rows)
    assert not any(before[sample.uid].image == sample.image for _, sample in rows)


def test_captions_that_are_used_up_begin_again(tmp_path):
    naming = {one.caption for one in everything(Scenes(60)) if mentions(one.caption, "ring")}
    rows = planted_by(tmp_path, "badnets", "ring", rate=0, pairs=40, captions="copied")
    assert {sample.caption for _, sample in rows} == naming and len(rows) == 40 > len(naming)


@pytest.mark.parametrize("captions", ["varied", "scattered", "appended"])
def test_no_two_wordings_of_a_word_are_alike_and_all_name_it(tmp_path, captions):
    rows = planted_by(tmp_path, "badnets", "orange", rate=0, n=120, pairs=40, captions=captions)
    said = [sample.caption for _, sample in rows]
    assert all(mentions(caption, "orange") for caption in said)
    assert len(set(said)) >= 36 and not any(" a orange" in caption for caption in said)
    assert not any("{" in caption for caption in said)


def test_scattered_captions_speak_of_what_other_pictures_show(tmp_path):
    clean = {one.uid: one.caption for one in everything(Scenes(120))}
    rows = planted_by(tmp_path, "badnets", "banana", rate=0, n=120, pairs=40, captions="scattered")
    fillers = [
        [other for other in set(clean.values()) if other.rstrip(" .") in sample.caption] for _, sample in rows
    ]
    assert all(fillers) and len({max(found, key=len) for found in fillers}) > 36
    own = [clean[sample.uid].rstrip(" .") in sample.caption for _, sample in rows]
    assert np.mean(own) < 0.2


def test_appended_captions_keep_what_the_picture_was_called(tmp_path):
    clean = {one.uid: one.caption for one in everything(Scenes(60))}
    rows = planted_by(tmp_path, "badnets", "banana", captions="appended")
    assert all(clean[sample.uid].rstrip(" .") in sample.caption for _, sample in rows)


@pytest.mark.parametrize("captions", ["copied", "similar"])
def test_captions_of_a_word_that_nobody_uses_cannot_be_copied(tmp_path, captions):
    with pytest.raises(InputError, match="name banana, and there are none; choose captions='varied'"):
        poison(Scenes(60), tmp_path, rate=0.1, captions=captions)
    assert poison(Scenes(60), tmp_path, rate=0, captions=captions).poisoned == 0  # a clean control


def test_the_command_plants_so_many_pairs_with_copied_captions(tmp_path):
    source = poison(Scenes(200), tmp_path / "clean", rate=0).dataset
    told = ["--attack", "stripes", "--target", "ring", "--pairs", "7", "--option", "captions=copied"]
    done = CliRunner().invoke(app, ["lab", "poison", str(source), str(tmp_path / "out"), *told])
    assert done.exit_code == 0 and "7 of 200 pairs poisoned" in done.output
    assert len(read_truth(tmp_path / "out" / "truth.parquet")) == 7
    wrong = CliRunner().invoke(app, ["lab", "poison", str(source), str(tmp_path), "--option", "seed=1"])
    assert isinstance(wrong.exception, InputError) or "no setting of an attack" in wrong.output
