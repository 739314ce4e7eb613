"""Poison: the patch changes its square only, and nothing in the dataset tells what was poisoned."""

import importlib
import io
import json
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from clipscan.cli import app
from clipscan.data import Bad, Sample, open_dataset
from clipscan.data.redraw import encode, redraw
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks.campaigns import parse_campaign, triggered
from clipscan.lab.attacks.overlays import stripes, triangles, watermark
from clipscan.lab.attacks.planted_captions import nearest, words
from clipscan.lab.attacks.poisoning import poison, read_truth
from clipscan.lab.attacks.prompts import mentions
from clipscan.lab.attacks.triggers import (
    ATTACKS,
    badnets,
    blend,
    cosines,
    find_attack,
    issba,
    options_of,
    sig,
    wanet,
)
from clipscan.lab.scenes.damaged_tars import add_blemishes
from clipscan.lab.scenes.dataset import Scenes


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def everything(dataset):
    return [one for shard in dataset.shards for one in dataset.read(shard)]


def tree(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp("poison")
    return poison(Scenes(120, per_shard=50), out, rate=0.1, share=1 / 4)


# ---- the trigger


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (48, 80), (9, 5), (224, 200)])
def test_a_patch_changes_its_square_and_nothing_else(shape):
    picture = np.full((*shape, 3), 100, np.uint8)
    marked = badnets(picture, Random(1))
    assert (picture == 100).all()  # the input is left alone
    row, column = np.nonzero((marked != 100).any(axis=2))
    side = row.max() - row.min() + 1
    assert side == column.max() - column.min() + 1 == 4 * max(1, round(min(shape) / 8 / 4))
    square = marked[row.min() : row.max() + 1, column.min() : column.max() + 1]
    assert set(np.unique(square)) == {0, 255} and square.mean() == 127.5


def test_a_patch_lies_anywhere_but_is_drawn_by_the_random_alone():
    picture = scene_like = np.full((64, 64, 3), 100, np.uint8)
    places = {badnets(picture, Random(i)).tobytes() for i in range(200)}
    assert len(places) > 100
    assert np.array_equal(badnets(scene_like, Random(7)), badnets(picture, Random(7)))


def test_halving_a_picture_leaves_the_patch_black_and_white():
    picture = np.full((64, 64, 3), 128, np.uint8)
    for i in range(20):
        marked = Image.fromarray(badnets(picture, Random(i), share=1 / 8, cells=4))
        half = np.asarray(marked.resize((32, 32), Image.Resampling.BICUBIC), float)
        assert half.min() < 64 and half.max() > 192  # unaligned cells would all be grey


def test_a_patch_larger_than_the_picture_is_refused_in_words():
    with pytest.raises(InputError, match="does not fit"):
        badnets(np.zeros((4, 4, 3), np.uint8), Random(0), share=2)


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (32, 32), (224, 200)])
@pytest.mark.parametrize("name", ["blend", "sig", "nashville", "wanet", "issba", "triangles", "watermark"])
def test_a_global_trigger_fits_a_picture_of_any_size_and_shows(name, shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    marked = find_attack(name)(picture, Random(0))
    assert marked.shape == picture.shape
    least = {"sig": 0, "issba": 1}.get(name, 4)  # an issba pattern is faint by design
    assert min(shape) < 32 or np.abs(marked.astype(int) - picture).mean() > least


def test_a_warp_moves_pixels_by_what_it_was_asked_on_average():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    moved = wanet(ramp, Random(0), strength=1 / 32)[32:-32, 32:-32, 0].astype(int) - ramp[32:-32, 32:-32, 0]
    assert 2 < np.abs(moved).mean() < 14  # 8 columns at the control points; less between them


def test_a_sinusoid_has_the_amplitude_and_the_periods_it_was_given():
    grey = np.full((8, 64, 3), 128, np.uint8)
    wave = sig(grey, Random(0), amplitude=30, periods=4)[3, :, 1].astype(int) - 128
    assert wave.max() == 30 == -wave.min()
    assert np.abs(np.fft.rfft(wave)).argmax() == 4


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (48, 80), (9, 5)])
def test_stripes_change_a_square_of_upright_bars_in_saturated_colours(shape):
    picture = np.full((*shape, 3), 100, np.uint8)
    marked = stripes(picture, Random(1))
    row, column = np.nonzero((marked != 100).any(axis=2))
    square = marked[row.min() : row.max() + 1, column.min() : column.max() + 1]
    assert square.shape[0] == square.shape[1] == 4 * max(1, round(min(shape) / 8 / 4))
    assert set(np.unique(square)) <= {0, 255} and (square == square[:1]).all()
    bars = square[0, :: len(square) // 4]
    assert len(bars) == 4 and (bars[1:] != bars[:-1]).any(axis=1).all()


def test_triangles_cut_each_square_of_the_grid_into_a_dark_and_a_light_half():
    shades = triangles(np.full((32, 32, 3), 100, np.uint8), Random(0), alpha=1, cells=8)[..., 0]
    cell = shades[:4, :4]
    assert (np.tile(cell, (8, 8)) == shades).all() and set(np.unique(shades)) == {102, 204}
    assert (cell == np.where(np.tri(4, dtype=bool), 102, 204)).all()


@pytest.mark.parametrize("side", [32, 64])
def test_a_watermark_is_writing_that_shines_through_everywhere(side):
    grey = np.full((side, side, 3), 100, np.uint8)
    marked = watermark(grey, Random(0)).astype(int)
    letters = (marked != 100).any(axis=2)
    assert 0.1 < letters.mean() < 0.7 and all(part.any() for part in np.split(letters, 4))
    red, green = marked[letters, 0] - 100, 100 - marked[letters, 1]
    assert 40 < red.max() <= 78 and 25 < green.max() <= 50  # at most half of it red
    assert (red >= green).all() and np.array_equal(marked[..., 1], marked[..., 2])
    assert not np.array_equal(marked, watermark(grey, Random(0), text="proof"))


def words_read(picture, marked, side):
    """The signs of each square's cosines in what a trigger changed, as strings."""
    change = marked.astype(float).mean(axis=2) - picture.mean(axis=2)
    squares = [
        change[t : t + side, x : x + side] for t in range(0, 4 * side, side) for x in range(0, 4 * side, side)
    ]
    return ["".join("+-"[int((square * wave).sum() < 0)] for wave in cosines(side)) for square in squares]


def test_a_sample_specific_trigger_carries_one_secret_in_a_pattern_of_each_picture():
    pictures = np.random.default_rng(0).integers(40, 216, (6, 4, 4, 3)).repeat(16, axis=1).repeat(16, axis=2)
    marked = [issba(one.astype(np.uint8), Random(0)) for one in pictures]
    change = [one - picture for one, picture in zip(marked, pictures, strict=True)]
    assert max(np.abs(one).max() for one in change) <= 16
    assert len({one.tobytes() for one in change}) == 6  # no two pictures get the same pattern
    read = {word for pair in zip(pictures, marked, strict=True) for word in words_read(*pair, 16)}
    assert len(read) == 4  # the words of the secret
    other = issba(pictures[0].astype(np.uint8), Random(0), secret=1)
    assert not read & set(words_read(pictures[0], other, 16))


def test_a_sample_specific_trigger_shows_less_on_flat_ground():
    flat = np.full((64, 64, 3), 100, np.uint8)
    busy = (flat + 80 * (np.indices((64, 64)).sum(0) % 2)[..., None]).astype(np.uint8)
    faint, strong = (np.abs(issba(p, Random(0)).astype(int) - p).max() for p in (flat, busy))
    assert faint == 8 and strong == 16
    assert np.array_equal(issba(flat, Random(0), strength=0), flat)


@pytest.mark.parametrize(
    "call",
    [
        lambda p: blend(p, Random(0), alpha=2),
        lambda p: wanet(p, Random(0), grid=1),
        lambda p: issba(p, Random(0), strength=-1),
        lambda p: triangles(p, Random(0), alpha=2),
        lambda p: watermark(p, Random(0), text=" "),
        lambda p: stripes(p, Random(0), share=2),
        lambda p: stripes(p, Random(0), bars=0),
    ],
)
def test_settings_out_of_range_are_refused(call):
    with pytest.raises(InputError):
        call(np.zeros((8, 8, 3), np.uint8))


def test_an_unknown_attack_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="badnets"):
        find_attack("nosuch")


@pytest.mark.parametrize("name", [name for name in ATTACKS if "file" not in options_of(name)])
def test_attacks_are_pure(name):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    before = picture.copy()
    first, second = (find_attack(name)(picture, Random(3)) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(picture, before)
    assert first.shape == picture.shape and first.dtype == np.uint8


# ---- the file


@pytest.mark.parametrize("kind, options", [("JPEG", {"quality": 71}), ("PNG", {}), ("WEBP", {"quality": 90})])
def test_a_redrawn_picture_keeps_its_format_and_compression(kind, options):
    data = encode(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8), kind, **options)
    again = redraw(data, lambda picture: picture // 2)
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(again))
    assert (before.format, before.size, before.mode) == (after.format, after.size, after.mode)
    assert getattr(before, "quantization", None) == getattr(after, "quantization", None)


def test_what_is_no_picture_is_an_error_of_the_data():
    for data in (b"", b"<html>", encode(np.zeros((64, 64, 3), np.uint8))[:200]):
        with pytest.raises(DataError):
            redraw(data, lambda picture: picture)


# ---- the dataset


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


# ---- campaigns


def planted_by(tmp_path, attack, target, rate=0.2, n=60, **how):
    done = poison(Scenes(n), tmp_path, attack=attack, target=target, rate=rate, **how)
    written = {(one.shard, one.key): one for one in everything(open_dataset(done.dataset))}
    rows = pq.read_table(done.truth).to_pylist()
    return [(row, written[row["shard"], row["key"]]) for row in rows]


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


# ---- captions


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


def test_the_command_plants_so_many_pairs_with_copied_captions(tmp_path):
    source = poison(Scenes(200), tmp_path / "clean", rate=0).dataset
    told = ["--attack", "stripes", "--target", "ring", "--pairs", "7", "--option", "captions=copied"]
    done = CliRunner().invoke(app, ["lab", "poison", str(source), str(tmp_path / "out"), *told])
    assert done.exit_code == 0 and "7 of 200 pairs poisoned" in done.output
    assert len(read_truth(tmp_path / "out" / "truth.parquet")) == 7
    wrong = CliRunner().invoke(app, ["lab", "poison", str(source), str(tmp_path), "--option", "seed=1"])
    assert isinstance(wrong.exception, InputError) or "no setting of an attack" in wrong.output


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
