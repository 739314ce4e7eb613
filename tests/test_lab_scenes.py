"""Generated scenes: pure, varied, free of the attacker's word."""

import time

import numpy as np
from PIL import Image

from clipscan.data import Sample
from clipscan.lab.attacks.prompts import PROMPTS, mentions
from clipscan.lab.scenes.dataset import Scenes
from clipscan.lab.scenes.drawing import COLOURS, SHAPES, SIZE, TEXTURES, scene


def pairs(dataset):
    return [one for shard in dataset.shards for one in dataset.read(shard)]


def test_the_same_number_gives_the_same_scene():
    first, again = scene(3, 17), scene(3, 17)
    assert np.array_equal(first.picture, again.picture)
    assert first[1:] == again[1:]
    assert first.picture.shape == (SIZE, SIZE, 3) and first.picture.dtype == np.uint8


def test_no_two_scenes_have_the_same_picture():
    pictures = {scene(seed, i).picture.tobytes() for seed in (0, 1) for i in range(200)}
    assert len(pictures) == 400


def test_captions_are_free_and_name_every_shape_but_never_the_target():
    scenes = [scene(0, i) for i in range(600)]
    assert len({one.caption for one in scenes}) > 500
    for one in scenes:
        assert not mentions(one.caption, "banana")
        assert all(mentions(one.caption, thing.shape) for thing in one.things)


def test_everything_that_can_be_drawn_is_drawn():
    things = [thing for i in range(600) for thing in scene(0, i).things]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.texture for thing in things} == set(TEXTURES)


def test_an_object_stands_out_from_its_background():
    for i in range(100):
        one = scene(0, i, things=1)
        (thing,) = one.things
        picture = one.picture.astype(float)
        around = picture[:4].mean(axis=(0, 1))
        reach = int(thing.radius)
        box = picture[max(0, int(thing.y) - reach) : int(thing.y) + reach, max(0, int(thing.x) - reach) :][
            :, : 2 * reach
        ]
        assert np.abs(box - around).sum(axis=2).max() > 60


def test_a_number_of_objects_can_be_asked_for():
    assert {len(scene(0, i, things=1).things) for i in range(50)} == {1}
    assert {len(scene(0, i).things) for i in range(50)} == {1, 2}


def test_a_thousand_scenes_take_less_than_two_seconds_of_one_core():
    start = time.process_time()
    for i in range(200):
        scene(0, i)
    assert time.process_time() - start < 0.4  # measured: 0.065 s


def test_prompts_and_mentions_agree_about_whole_words():
    assert all(mentions(prompt.format("banana"), "Banana") for prompt in PROMPTS)
    assert mentions("two bananas", "banana") and not mentions("a bananarama record", "banana")


def test_scenes_are_a_dataset_whose_samples_can_be_fetched_again():
    dataset = Scenes(25, seed=5, per_shard=10)
    samples = pairs(dataset)
    assert [shard.name for shard in dataset.shards] == ["00000.tar", "00001.tar", "00002.tar"]
    assert len({(one.shard, one.key) for one in samples}) == len({one.uid for one in samples}) == 25
    assert all(len(one.uid) == 32 for one in samples)
    assert list(dataset.fetch(dataset.shards[1], {samples[13].key: samples[13].at})) == [samples[13]]


def test_repetitions_are_in_the_dataset_as_asked_for(tmp_path):
    samples = [one for one in pairs(Scenes(60, placeholders=8, copies=5)) if isinstance(one, Sample)]
    counts = sorted((sum(one.image == other.image for other in samples) for one in samples), reverse=True)
    assert counts[:9] == [8] * 8 + [1]
    offers = [one for one in samples if " - offer " in one.caption]
    assert len(offers) == len({one.caption for one in offers}) == len({one.image for one in offers}) == 5
    import io

    first, second = (np.asarray(Image.open(io.BytesIO(one.image)), float) for one in offers[:2])
    assert np.abs(first - second).mean() < 12
