"""Poison: the patch changes its square only, and nothing in the dataset tells what was poisoned."""

import io
import json
import tarfile
from dataclasses import replace
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipscan.data import Bad, Sample, open_dataset
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks import ATTACKS, badnets, blend, cosines, find_attack, issba, options_of, sig, wanet
from clipscan.lab.blemishes import add_blemishes
from clipscan.lab.campaigns import parse_campaign, triggered
from clipscan.lab.generated import Scenes
from clipscan.lab.phrases import mentions
from clipscan.lab.pictures import encode, redraw
from clipscan.lab.poison import poison, read_truth


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
@pytest.mark.parametrize("name", ["blend", "sig", "nashville", "wanet", "issba"])
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


def planted_by(tmp_path, attack, target, rate=0.2, n=60):
    done = poison(Scenes(n), tmp_path, attack=attack, target=target, rate=rate)
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
        ("blto", "banana", {}, "needs the option file"),
    ],
)
def test_a_campaign_that_makes_no_sense_is_refused_in_words(attack, target, options, words):
    with pytest.raises(InputError, match=words):
        parse_campaign(attack, target, options)


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
