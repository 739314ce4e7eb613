"""Measures: equal to scikit-learn's with ties; behaviour and grades say what they claim to."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks.campaigns import parse_campaign
from clipscan.lab.attacks.prompts import PROMPTS, mentions
from clipscan.lab.grid.evaluate import SHARES, behave, grade
from clipscan.lab.grid.metrics import auroc, average_precision, fpr_at, recall_at
from clipscan.lab.grid.zero_shot import of_captions
from clipscan.lab.scenes.dataset import Scenes
from clipscan.lab.scenes.drawing import SHAPES

columns = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({true for _, true in rows}) == 2
)


@settings(deadline=None)  # the first call imports scikit-learn
@given(columns)
def test_auroc_and_average_precision_equal_scikit_learn_with_ties(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, truth = (np.array(column) for column in zip(*rows, strict=True))
    assert auroc(scores, truth) == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    assert average_precision(scores, truth) == pytest.approx(
        metrics.average_precision_score(truth, scores), abs=1e-12
    )


@settings(deadline=None)
@given(columns, st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_false_positives_at_a_true_positive_rate_are_read_off_the_roc_curve(rows, tpr):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, truth = (np.array(column) for column in zip(*rows, strict=True))
    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert fpr_at(scores, truth, tpr) == pytest.approx(false[true >= tpr - 1e-9].min(), abs=1e-12)


def test_a_twentieth_of_the_poison_may_be_missed_at_95_per_cent():
    truth = np.arange(220) < 20
    scores = np.where(truth, 1.0, 0.0)
    scores[0] = -1  # one of twenty lies below all clean rows
    scores[20:30] = 2
    assert fpr_at(scores, truth, 0.95) == 10 / 200 and fpr_at(scores, truth, 1.0) == 1.0


@settings(deadline=None)
@given(columns)
def test_the_order_of_rows_means_nothing(rows):
    scores, truth = (np.array(column, float) for column in zip(*rows, strict=True))
    for measure in (auroc, average_precision, lambda s, t: recall_at(s, t, 0.1)):
        assert measure(scores, truth) == pytest.approx(measure(scores[::-1], truth[::-1]), abs=1e-12)


def test_a_constant_score_is_worth_nothing():
    truth = np.arange(1000) % 100 == 0
    assert auroc(np.ones(1000), truth) == 0.5
    assert average_precision(np.ones(1000), truth) == pytest.approx(0.01)
    assert recall_at(np.ones(1000), truth, 0.05) == pytest.approx(0.05)


def test_recall_counts_the_removed_share():
    truth = np.zeros(1000, bool)
    truth[[0, 1, 2, 500]] = True
    scores = -np.arange(1000.0)
    assert recall_at(scores, truth, 0.001) == 0.25  # one row is removed
    assert recall_at(scores, truth, 0.01) == 0.75
    assert recall_at(scores, truth, 1.0) == 1.0


def test_infinite_scores_rank_and_nan_is_refused_by_row():
    truth = np.array([False, True, False])
    assert auroc([0.0, np.inf, -np.inf], truth) == 1.0
    with pytest.raises(InputError, match="row 2"):
        auroc([0.0, 1.0, np.nan], truth)
    with pytest.raises(InputError, match="nothing to tell apart"):
        auroc([0.0, 1.0], [False, False])


# ---- grades


def write_run(run, shards):
    (run / "scores").mkdir(parents=True)
    for number, columns in enumerate(shards):
        pq.write_table(pa.table(columns), run / "scores" / f"scores_{number:05d}.parquet")


def test_grades_join_on_identity_and_pass_over_spreads(tmp_path):
    keys = ["a", "b", "c"]  # the same keys in both shards: only shard and key together are an identity
    write_run(
        tmp_path,
        [
            {
                "shard": ["0.tar"] * 3,
                "key": keys,
                "population": [-1, -1, 0],
                "dao": [1.0, 2.0, 9.0],
                "kdist": [0.0, 9.0, np.nan],
                "dao_spread": [0.0] * 3,
            },
            {
                "shard": ["1.tar"] * 3,
                "key": keys,
                "population": [-1, -1, -1],
                "dao": [1.0, 2.0, 3.0],
                "kdist": [1.0, 2.0, 3.0],
                "dao_spread": [0.0] * 3,
            },
        ],
    )
    grades = grade(tmp_path, {("0.tar", "c"), ("9.tar", "unreadable")})
    assert [one.score for one in grades] == ["dao", "kdist"]
    assert grades[0].auroc == 1.0 and grades[0].recall == (1.0,) * len(SHARES)
    assert grades[1].auroc == 0.0  # a score that is not a number suspects nobody


def test_a_run_without_scores_or_of_another_dataset_is_refused(tmp_path):
    with pytest.raises(RunError, match="clipscan scan"):
        grade(tmp_path, {("0.tar", "a")})
    write_run(tmp_path, [{"shard": ["0.tar"], "key": ["a"], "dao": [1.0]}])
    with pytest.raises(RunError, match="another dataset"):
        grade(tmp_path, {("5.tar", "a")})


# ---- behaviour


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
