"""compat="detect-clip": the released indexing, transcribed with plain loops, and its bugs shown."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.errors import InputError
from clipscan.scores.detect_clip import METHODS, detect_clip

LOCAL = ("kdist", "lid", "slof", "dao")
EPS = 1e-4


def lid_of(ascending, k):
    terms = [np.log(ascending[j] / ascending[k] + np.float32(EPS)) for j in range(k)]
    return np.float32(-k) / np.sum(np.array(terms, np.float32))


def mended(terms):
    mean = np.mean(np.array(terms, np.float32))
    if np.isnan(mean) or mean == np.inf:
        return 1000.0
    return 0.0 if mean == -np.inf else float(mean)


def transcribed(image, text, k):
    """One batch, image by image, with Python lists: delete, sort, and index tables that kept everything."""
    rows = [*image.astype(np.float64)] + ([] if text is None else [*text.astype(np.float64)])
    b = len(image)
    full = [[np.float32(np.sqrt(np.sum((x - y) ** 2))) for y in rows] for x in rows]
    table = [sorted(line) for line in full]
    out = {name: [] for name in LOCAL}
    with np.errstate(all="ignore"):
        for i in range(b):
            left = full[i][:i] + full[i][i + 1 : b]
            if text is not None:
                left += full[i][b : b + i] + full[i][b + i + 1 :]
            order = sorted(range(len(left)), key=lambda position: (left[position], position))
            nearest = [left[position] for position in order]
            out["kdist"].append(nearest[k])
            out["lid"].append(lid_of(nearest, k))
            ratio = [nearest[k] / table[position][k] for position in order[:k]]
            out["slof"].append(mended(ratio))
            lids = [lid_of(table[position], k) for position in order[:k]]
            out["dao"].append(mended([w * np.log(r) for w, r in zip(lids, ratio, strict=True)]))
    return {name: np.array(values, np.float64) for name, values in out.items()}


def gaussian(seed, n, width=8):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, width)).astype(np.float32), rng.standard_normal((n, width)).astype(
        np.float32
    )


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5, atol=2e-6, err_msg=name)


def ranks(values):
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("k", [1, 5, 16])
def test_scores_are_those_of_the_transcribed_indexing(joint, k):
    image, text = gaussian(k, 90)
    text = text if joint else None
    assert_same(detect_clip(image, text, method=LOCAL, k=k), transcribed(image, text, k))


@settings(deadline=None, max_examples=60)
@given(
    b=st.integers(3, 16), width=st.integers(1, 3), k=st.integers(1, 5), joint=st.booleans(), data=st.data()
)
def test_scores_are_those_of_the_transcribed_indexing_where_rows_repeat(b, width, k, joint, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image, text = rng.integers(-3, 4, (2, b, width)).astype(np.float32)  # whole numbers: ties are exact
    text = text if joint else None
    if (b - 1) * (1 + joint) <= k:
        with pytest.raises(InputError, match="neighbours"):
            detect_clip(image, text, method=LOCAL, k=k)
    else:
        assert_same(detect_clip(image, text, method=LOCAL, k=k), transcribed(image, text, k))


def test_copies_in_a_large_batch_are_at_distance_zero():
    image, text = gaussian(7, 150, width=64)
    image += 50.0  # a large common part, as in CLIP features: where the expanded form cancels
    image[rows := np.arange(4, 150, 10)] = image[4]
    ours = detect_clip(image, text, method=LOCAL, k=8)
    assert_same(ours, transcribed(image, text, 8))
    assert (ours["kdist"][rows] == 0.0).all()


def test_neighbours_behind_the_scored_image_are_read_one_row_too_early():
    # Nearest distances are 2, 1, 1, 7. With k=1 the first image's neighbour is row 1 but row 0, itself, is
    # read: 3 / 2; the second one's is row 2 but row 1 is read: 2 / 1. Those before are read rightly.
    line = np.array([[0.0], [2.0], [3.0], [10.0]], np.float32)
    assert detect_clip(line, method="slof", k=1)["slof"].tolist() == [1.5, 2.0, 3.0, 8.0]


def test_the_order_of_a_batch_changes_slof_and_dao_but_not_kdist_and_lid():
    image, text = gaussian(0, 400)
    order = np.random.default_rng(1).permutation(400)
    here = detect_clip(image, text, method=LOCAL)
    there = detect_clip(image[order], text[order], method=LOCAL)
    for name in ("kdist", "lid"):
        np.testing.assert_allclose(there[name], here[name][order], rtol=1e-5)
    for name in ("slof", "dao"):
        assert np.corrcoef(ranks(there[name]), ranks(here[name][order]))[0, 1] < 0.995
        assert (there[name] != here[name][order]).all()


def test_a_batch_is_named_by_its_rows_in_order():
    image, text = gaussian(3, 70)
    order = np.random.default_rng(4).permutation(70)
    by_number = detect_clip(image, text, method=METHODS, k=5, batches=[order[:40], order[40:]])
    by_size = detect_clip(image[order[:40]], text[order[:40]], method=METHODS, k=5, batches=40)
    for name in METHODS:
        assert by_number[name][order[:40]].tobytes() == by_size[name].tobytes()


def test_the_last_batch_may_be_shorter():
    image, _ = gaussian(5, 50)
    ours = detect_clip(image, method=LOCAL, k=4, batches=20)
    for part in (slice(0, 20), slice(20, 40), slice(40, 50)):
        alone = transcribed(image[part], None, 4)
        assert_same({name: ours[name][part] for name in LOCAL}, alone)


def test_a_row_in_no_batch_stays_nan_and_one_in_two_keeps_the_last():
    image, _ = gaussian(6, 30)
    first, second = np.arange(0, 15), np.arange(10, 25)
    score = detect_clip(image, method="slof", k=3, batches=[first, second])["slof"]
    assert np.isnan(score[25:]).all()
    assert (score[second] == detect_clip(image, method="slof", k=3, batches=[second])["slof"][second]).all()


def test_copies_push_themselves_and_unrelated_images_to_1000():
    image, _ = gaussian(8, 200)
    image[100:140] = image[100]
    for name in ("slof", "dao"):
        score = detect_clip(image, method=name, k=16)[name]
        top = np.flatnonzero(score == 1000.0)
        assert set(range(117, 140)) <= set(top)  # enough copies in front of them, read rightly
        assert (top < 100).any() or (top >= 140).any()


def test_lid_is_nan_among_copies_and_negative_between_equals():
    k = 5
    image = np.eye(40, dtype=np.float32)
    assert detect_clip(image, method="lid", k=k)["lid"] == pytest.approx(np.full(40, -10_000.0), rel=1e-2)
    image[: k + 1] = image[0]  # k copies of each other: the (k+1)-th neighbour is still away
    assert np.isfinite(detect_clip(image, method="lid", k=k)["lid"]).all()
    image[k + 1] = image[0]
    assert np.isnan(detect_clip(image, method="lid", k=k)["lid"]).tolist() == [True] * (k + 2) + [False] * (
        38 - k
    )


def test_dao_is_nearly_a_multiple_of_the_logarithm_of_slof():
    image, text = gaussian(9, 500)
    score = detect_clip(image, text, method=["dao", "slof"])
    assert np.corrcoef(score["dao"], np.log(score["slof"]))[0, 1] > 0.98
    assert (np.abs(score["dao"]) < 16 / 9.2 * np.abs(np.log(score["slof"])) + 0.1).all()


def test_left_out_k_is_that_of_the_released_script():
    image, _ = gaussian(10, 120)
    by_default = detect_clip(image, method=LOCAL)
    for name, k in {"kdist": 16, "lid": 64, "slof": 16, "dao": 16}.items():
        assert (by_default[name] == detect_clip(image, method=name, k=k)[name]).all()


def test_the_forest_of_a_batch_grows_on_images_and_captions():
    image, text = gaussian(11, 300)
    image[17] += 6.0
    alone = detect_clip(image, method="iforest")["iforest"]
    assert alone.argmax() == 17
    joint = detect_clip(image, text + 6.0, method="iforest")["iforest"]  # now row 17 is where captions are
    assert joint[17] < alone[17]
    assert joint.tobytes() == detect_clip(image, text + 6.0, method="iforest")["iforest"].tobytes()
    assert joint.tobytes() != detect_clip(image, text + 6.0, method="iforest", seed=1)["iforest"].tobytes()


def test_the_cube_of_batch_neighbours_and_references_is_never_built():
    image, text = gaussian(12, 512)
    tracemalloc.start()
    detect_clip(image, text, method=LOCAL, k=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 512 * 64 * 1024 * 4 / 5  # bytes of that cube in float32: 134 MB


def test_half_precision_rows_are_scored_as_they_are():
    image, text = (rows.astype(np.float16) for rows in gaussian(13, 60))
    half = detect_clip(image, text, method=LOCAL, k=9)
    assert_same(half, detect_clip(image.astype(np.float32), text.astype(np.float32), method=LOCAL, k=9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "lof"}, r"no detector \['lof'\]; it has kdist, lid, slof, dao, iforest"),
        ({"text": np.zeros((50, 3), np.float32)}, r"\(50, 3\) beside \(50, 8\)"),
        ({"k": 0}, "at least 1, got 0"),
        ({"batches": 0}, "at least one row"),
        ({"batches": 33}, "batch 1 of 17 rows has 16 neighbours for each, k=16 needs 17"),
        ({"batches": [np.arange(20), np.arange(31, 51)]}, "batch 1 names row 50, but image has 50 rows"),
        ({"batches": [np.arange(-1, 25)]}, "batch 0 names row -1"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(change, message):
    image, _ = gaussian(14, 50)
    with pytest.raises(InputError, match=message):
        detect_clip(image, **change)
