"""Triggers: what each does to the pixels of a picture, and nothing else."""

import io
from random import Random

import numpy as np
import pytest
from PIL import Image

from clipscan.data.redraw import encode, redraw
from clipscan.errors import DataError, InputError
from clipscan.lab.attacks.structured_triggers import stripes, triangles, watermark
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
