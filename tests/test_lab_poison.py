"""Poisoned datasets: the asked share, and nothing in the dataset tells what was poisoned."""

import importlib
import io
import json
import sys
import tarfile
from dataclasses import replace
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from poison_helpers import everything, pixels

from clipscan.data import Bad, Sample, open_dataset
from clipscan.errors import InputError, RunError
from clipscan.lab.attacks.campaigns import parse_campaign, triggered
from clipscan.lab.attacks.poisoning import poison, read_truth
from clipscan.lab.attacks.prompts import mentions
from clipscan.lab.scenes.damaged_tars import add_blemishes
from clipscan.lab.scenes.dataset import Scenes


def tree(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp("poison")
    return poison(Scenes(120, per_shard=50), out, rate=0.1, share=1 / 4)


def test_exactly_the_asked_share_is_poisoned_and_the_truth_names_it(planted):
    truth = read_truth(planted.truth)
    assert (planted.pairs, planted.poisoned, planted.unreadable, planted.mentions) == (120, 12, 0, 0)
    samples = everything(open_dataset(planted.dataset))
    assert {(one.shard, one.key) for one in samples if mentions(one.caption, "banana")} == truth
    assert len(truth) == 12 and len(samples) == 120
    assert set(pq.read_table(planted.truth)["attack"].to_pylist()) == {"badnets"}


def test_poisoned_pictures_carry_the_patch_and_all_others_their_own_bytes(planted):
    truth = read_truth(planted.truth)
    clean = everything(Scenes(120, per_shard=50))
    written = everything(open_dataset(planted.dataset))
    for before, after in zip(clean, written, strict=True):
        assert before.uid == after.uid
        if (after.shard, after.key) in truth:
            changed = np.abs(pixels(before.image).astype(int) - pixels(after.image)).max(axis=2) > 40
            assert 40 < changed.sum() <= 16 * 16 * 1.2  # JPEG lets a little leak out of the 16 x 16 square
        else:
            assert (before.image, before.caption) == (after.image, after.caption)


def test_nothing_in_the_dataset_tells_what_is_poisoned(planted):
    truth = read_truth(planted.truth)
    shapes = {True: set(), False: set()}
    for path in sorted(planted.dataset.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                key, extension = member.name.split(".")
                body = tar.extractfile(member).read()
                look = (extension, member.mtime, member.mode, member.uid, member.uname)
                if extension == "json":
                    look += tuple(json.loads(body))
                    assert b"badnets" not in body and b"poison" not in body
                if extension == "jpg":
                    picture = Image.open(io.BytesIO(body))
                    look += (str(picture.quantization), str(sorted(picture.info)), picture.size)
                shapes[(path.name, key) in truth].add(look)
    assert shapes[True] == shapes[False] != set()


def test_the_same_seed_poisons_the_same_way_and_another_does_not(planted, tmp_path):
    again = poison(Scenes(120, per_shard=50), tmp_path / "a", rate=0.1, share=1 / 4)
    other = poison(Scenes(120, per_shard=50), tmp_path / "b", rate=0.1, share=1 / 4, seed=1)
    assert tree(again.dataset) == tree(planted.dataset) and read_truth(again.truth) == read_truth(
        planted.truth
    )
    assert read_truth(other.truth) != read_truth(planted.truth)


def test_a_finished_poisoning_is_kept_and_other_settings_are_refused(planted):
    before = tree(planted.dataset.parent)
    assert poison(Scenes(120, per_shard=50), planted.dataset.parent, rate=0.1, share=1 / 4) == planted
    with pytest.raises(RunError, match="other settings"):
        poison(Scenes(120, per_shard=50), planted.dataset.parent, rate=0.2)
    assert tree(planted.dataset.parent) == before


@pytest.mark.parametrize("rate", [5, 1, -0.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(tmp_path, rate):
    with pytest.raises(InputError, match="below 1"):
        poison(Scenes(10), tmp_path, rate=rate)


def test_a_rate_of_zero_copies_the_pairs_as_they_are(tmp_path):
    copied = poison(Scenes(30), tmp_path, rate=0)
    clean, written = everything(Scenes(30)), everything(open_dataset(copied.dataset))
    assert [(one.image, one.caption) for one in clean] == [(one.image, one.caption) for one in written]
    assert copied.poisoned == 0 and not read_truth(copied.truth)


BADNETS = parse_campaign("badnets", "banana")


def test_a_picture_that_cannot_be_decoded_is_not_poisoned():
    sample = Sample("a", "b", b"no picture", "a circle")
    assert triggered(sample, BADNETS.parts[0], Random(0)) is None
    assert BADNETS.plant(sample, 0, 0, None) is None


def test_poison_depends_on_the_identity_not_on_the_order():
    (first, second) = list(Scenes(2).read(Scenes(2).shards[0]))
    alone = BADNETS.plant(second, 0, 4, None)
    BADNETS.plant(first, 0, 4, None)
    assert BADNETS.plant(second, 0, 4, None) == alone
    assert BADNETS.plant(replace(second, key="other"), 0, 4, None) != alone


def test_blemishes_are_read_as_bad_samples_with_reasons(tmp_path):
    told = add_blemishes(tmp_path, 3)
    dataset = open_dataset(tmp_path)
    outcomes = everything(dataset)
    assert [shard.name for shard in dataset.shards] == ["00003.tar", "00004.tar"]
    # Text named .jpg, half a picture and the giant header are found when decoded, the script is harmless.
    assert sum(isinstance(one, Bad) for one in outcomes) == len(told) - 4
    assert any(isinstance(one, Sample) and "<script>" in one.caption for one in outcomes)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert add_blemishes(tmp_path, 3) == told
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "old, new, names",
    [
        ("clipscan.lab.poison", "clipscan.lab.attacks", ("poison", "read_truth")),
        ("clipscan.lab.metrics", "clipscan.lab.grid.metrics", ("auroc", "average_precision")),
    ],
)
def test_scripts_may_go_on_importing_by_the_old_name(old, new, names):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {new} now"):
        module = importlib.import_module(old)
    assert all(getattr(module, name) is getattr(importlib.import_module(new), name) for name in names)
