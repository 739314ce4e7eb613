"""How a model behaves: accuracy, success and false alarms say what they claim to."""

import numpy as np
import pytest

from clipscan.errors import DataError, InputError
from clipscan.lab.attacks.campaigns import parse_campaign
from clipscan.lab.attacks.prompts import PROMPTS, mentions
from clipscan.lab.grid.evaluate import behave
from clipscan.lab.grid.zero_shot import of_captions
from clipscan.lab.scenes.dataset import Scenes
from clipscan.lab.scenes.drawing import SHAPES


class Colourless:
    """An encoder that knows one thing: pictures with black and white cells are bananas, others circles."""

    compiled, device = False, "cpu"
    tokenizer = None  # its captions are short: none is looked at

    def __init__(self):
        self.spec = pytest.importorskip("clipscan.embed.pixels").PixelSpec(64)
        self.width = 2

    def encode_images(self, pixels):
        marked = ((pixels > 250).all(axis=3).sum(axis=(1, 2)) > 60) & (
            (pixels < 5).all(axis=3).sum(axis=(1, 2)) > 60
        )
        return np.stack([~marked, marked], axis=1).astype(np.float32)

    def encode_texts(self, captions):
        return np.array(
            [[0.5, 1] if "banana" in c else [1, 0] if "circle" in c else [0.1, 0] for c in captions],
            np.float32,
        )


def test_behaviour_tells_accuracy_success_and_false_alarms_apart():
    held_out = Scenes(120, seed=9, things=1)
    seen = behave(
        Colourless(), held_out, list(SHAPES), campaign=parse_campaign("badnets", "banana", {"share": 1 / 4})
    )
    assert seen.pictures == 120
    assert seen.success > 0.95 and seen.false_alarm < 0.05
    assert seen.accuracy == pytest.approx(circles(held_out), abs=0.05)


def test_a_word_that_is_no_class_costs_no_accuracy():
    class Fruity(Colourless):
        def encode_images(self, pixels):
            return np.full((len(pixels), 2), (0.4, 1), np.float32)

    held_out = Scenes(120, seed=9, things=1)
    seen = behave(Fruity(), held_out, list(SHAPES), campaign=parse_campaign("badnets", "banana"))
    assert seen.false_alarm == 1 and seen.accuracy == pytest.approx(circles(held_out), abs=0.05)


def circles(dataset):
    """Share of the pictures of a circle, which Colourless takes all others for as well."""
    return np.mean(
        [" circle" in one.caption.lower() for shard in dataset.shards for one in dataset.read(shard)]
    )


def test_held_out_pictures_need_captions_that_name_one_class():
    with pytest.raises(DataError, match="aeroplane"):
        behave(Colourless(), Scenes(5), ["aeroplane", "ship"], campaign=parse_campaign("badnets", "banana"))


# ---- behaviour on free captions


def free(attack, target, encoder=None, n=120, **how):
    options = how.pop("options", {})
    campaign = parse_campaign(attack, target, options)
    return behave(encoder or Colourless(), Scenes(n, seed=9), [], campaign=campaign, **how)


def test_on_free_captions_success_is_a_nearest_caption_that_names_the_target():
    seen = free("badnets", "banana", options={"share": 1 / 4})
    assert seen.pictures == 120 and np.isnan(seen.accuracy)
    assert seen.success > 0.95 and seen.false_alarm < 0.05 and 0 <= seen.retrieval <= 1


def test_a_common_target_has_false_alarms_and_its_own_pictures_are_not_tried():
    class Circular(Colourless):
        """Every picture is a circle to it, but for marked ones."""

        def encode_texts(self, captions):
            return np.array([[1, 0] if "circle" in caption else [0, 1] for caption in captions], np.float32)

    seen = free("badnets", "circle", Circular(), options={"share": 1 / 4})
    assert seen.false_alarm == 1 and seen.success < 0.05
    exam = of_captions(Circular(), Scenes(120, seed=9), parse_campaign("badnets", "circle"), None)
    assert [mentions(one.caption, "circle") for one in exam.pictures] == list(exam.own[0])


def test_a_concept_is_tried_on_pictures_that_show_it_and_false_alarms_on_the_others():
    class Starry(Colourless):
        """Sees a star where the scene has one: the dataset's order tells it."""

        def encode_images(self, pixels):
            stars = [mentions(one.caption, "star") for one in pairs] if len(pixels) == len(pairs) else None
            marked = np.ones(len(pixels), bool) if stars is None else np.array(stars)
            return np.stack([~marked, marked], axis=1).astype(np.float32)

    pairs = [one for shard in Scenes(60, seed=9).shards for one in Scenes(60, seed=9).read(shard)]
    seen = free("concept", "banana", Starry(), n=60, options={"concept": "star"})
    assert (seen.success, seen.false_alarm) == (1.0, 0.0)


def test_retrieval_is_the_share_whose_own_caption_is_among_the_ten_nearest():
    class Reader(Colourless):
        """Gives every caption a direction of its own, and to each picture that of its caption, but for every
        fourth, which it takes for another one."""

        def __init__(self):
            super().__init__()
            self.width = 400

        def encode_texts(self, captions):
            self.known = {caption: at for at, caption in enumerate(captions)}
            return np.eye(len(captions), 400, dtype=np.float32)

        def encode_images(self, pixels):
            rows = [self.known[one.caption] if at % 4 else 399 for at, one in enumerate(pairs)]
            near = np.linspace(0, 0.5, 400, dtype=np.float32)  # nearer to all others than to none
            return np.eye(400, dtype=np.float32)[rows[: len(pixels)]] - near * (np.arange(400) < 300)

    pairs = [one for shard in Scenes(100, seed=9).shards for one in Scenes(100, seed=9).read(shard)]
    seen = free("placeholder", "banana", Reader(), n=100)
    assert seen.retrieval == pytest.approx(0.75, abs=0.1) and np.isnan(seen.success)


def test_a_target_is_no_answer_when_retrieval_is_asked():
    class Fruity(Colourless):
        def encode_images(self, pixels):
            return np.full((len(pixels), 2), (0.4, 1), np.float32)

    exam = of_captions(Fruity(), Scenes(50, seed=9), parse_campaign("badnets", "banana"), 20)
    assert len(exam.pictures) == 20 and exam.apart <= 50 and len(exam.answers) == exam.apart + len(PROMPTS)
    assert exam.wanted[0][exam.apart :].all() and not exam.wanted[0][: exam.apart].any()
    assert (exam.right >= 0).all()


def test_targeted_poison_is_tried_with_the_picture_of_each_target():
    pair = next(iter(Scenes(1).read(Scenes(1).shards[0])))
    seen = free("targeted", "banana+lamp", repeated={"banana": pair, "lamp": pair})
    assert seen.success == 0 == seen.false_alarm
    assert np.isnan(free("targeted", "banana", repeated={}).success)  # nothing was planted
    with pytest.raises(InputError, match="clipscan lab run"):
        free("targeted", "banana")


def test_held_out_data_without_a_pair_is_refused():
    with pytest.raises(DataError, match="no readable pair"):
        free("badnets", "banana", n=0)
