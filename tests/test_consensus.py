"""consensus against its definition, a row at a time in float64, and what it promises about poison."""

import math

import numpy as np
import pytest

import clipscan
from clipscan.engine import as_rows
from clipscan.scores import captions, consensus
from clipscan.scores.local import Engine
from clipscan.scores.panel import Panel
from clipscan.scores.references import Scale, identify, parse_scales


def pairs(n=300, d=12, seed=0, distinct=40):
    draw = np.random.default_rng(seed)
    text = draw.normal(size=(distinct, d)).astype(np.float32)
    return draw.normal(size=(n, d)).astype(np.float32), text[draw.integers(0, distinct, n)]


def by_definition(image, text, k, seed=0):
    """The five steps of the docstring, in float64, where the company is everybody."""
    n = len(image)
    sizes = ",".join(f"{size * k}x{consensus.DRAWS}" for size in consensus.SIZES)
    mean = {}
    for family in (consensus.DENSITY, consensus.CROSS_MODAL)[: 1 if text is None else 2]:
        ask = {"method": family, "reference": sizes, "k": k, "seed": seed}
        signs = clipscan.score(image, text=text, **ask).columns
        weights = [int(name.partition("@")[2].partition("x")[0]) ** 0.5 for name in signs]
        means = np.average(
            [[surprise(x, column) for x in column] for column in signs.values()],
            axis=0,
            weights=weights if family == consensus.DENSITY else None,
        )
        mean[family] = np.array([surprise(x, means) for x in means])
    alone = mean[consensus.DENSITY]
    joint = direction(image) / apart(image, seed)
    if text is not None:
        joint = np.hstack([joint, consensus.CAPTION_SCALE * direction(text) / apart(text, seed, image)])
    near = [np.argsort(distances(joint, i), kind="stable")[: captions.NEIGHBORS] for i in range(n)]
    sums = [alone + consensus.PAIR_WEIGHT * np.array([alone[rows].mean() for rows in near])]
    if text is not None:
        crowd = np.maximum(0, crowding(image, text, alone, seed) - math.log(consensus.CROWDED))
        crowded = alone + consensus.CROWD_WEIGHT * crowd
        either = (crowded**4 + mean[consensus.CROSS_MODAL] ** 4) ** 0.25
        company = np.array([alike(text, i, either) for i in range(n)])
        excess = np.maximum(0, company - np.quantile(company, consensus.USUAL))
        sums.append(either + consensus.CAPTION_WEIGHT * excess)
    low, median, high = (np.quantile(sums, q, axis=1)[:, None] for q in (0.1, 0.5, 0.9))
    return ((sums - median) / (high - low)).max(axis=0)


def crowding(image, text, alone, seed):
    """ln of how many times as many rows are as alone in a row's area as everywhere, the mean of the draws."""
    identity, found = identify(as_rows(image)), []
    for draw in range(captions.DRAWS):
        anchors = identity.sample(Scale("", captions.AREAS, captions.DRAWS), draw, seed)
        area = [np.argmin(np.linalg.norm(direction(text[anchors]) - one, axis=1)) for one in direction(text)]
        for i, here in enumerate(area):
            others = np.array([alone[j] for j, there in enumerate(area) if there == here and j != i])
            expected = (len(others) + 1) * math.exp(-alone[i])
            found.append(
                math.log(((others >= alone[i]).sum() + captions.PRIOR) / (expected + captions.PRIOR))
            )
    return np.mean(np.reshape(found, (captions.DRAWS, -1)), axis=0)


def surprise(value, column):
    return -math.log(((column >= value).sum() + 0.5) / (len(column) + 0.5))


def direction(x):
    return x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)


def distances(x, i):
    out = np.linalg.norm(x - x[i], axis=1)
    out[i] = np.inf
    return out


def apart(x, seed, drawn_by=None):
    identity = identify(as_rows(x if drawn_by is None else drawn_by))
    rows = direction(x)[identity.sample(Scale("", consensus.SAMPLED, 1), 0, seed)]
    pairs = len(rows) // 2
    found = np.array([np.linalg.norm(rows[2 * i] - rows[2 * i + 1]) for i in range(pairs)])
    return np.median(found[found > 0])


def alike(text, i, own):
    distinct, inverse = np.unique(direction(text), axis=0, return_inverse=True)
    met = np.zeros(len(text), bool)
    for caption in np.argsort(np.linalg.norm(distinct - direction(text)[i], axis=1), kind="stable"):
        met |= inverse.ravel() == caption
        if met.sum() > captions.NEIGHBORS:
            break
    met[i] = False
    return own[met].mean()


@pytest.mark.parametrize("with_text", [True, False])
def test_it_is_what_the_docstring_says(with_text):
    image, text = pairs()
    text = text if with_text else None
    ours = clipscan.score(image, text=text, k=5)
    assert list(ours.columns) == ["consensus"]
    assert np.abs(ours.scores - by_definition(image, text, 5)).max() < 1e-4


def test_row_order_slices_and_threads_change_nothing():
    image, _ = pairs(400)
    text, _ = pairs(400, seed=1)  # all differ: of equal captions in a reference the first rows are neighbours
    turn = np.random.default_rng(1).permutation(400)
    plain = clipscan.score(image, text=text, k=4, threads=1)
    turned = clipscan.score(image[turn], text=text[turn], k=4, threads=2)
    assert np.abs(plain.scores[turn] - turned.scores).max() < 1e-9


def test_beyond_the_company_a_row_is_scored_in_any_slice_alike(monkeypatch):
    monkeypatch.setattr(consensus, "COMPANY", 150)
    image, text = (as_rows(x) for x in pairs(400))
    panel = Panel(image, text, identify(image), ["consensus"], parse_scales("64"), Engine(4, threads=1))
    whole = panel.columns(0, 400)[0]["consensus"]
    parts = [panel.columns(at, min(400, at + 70))[0]["consensus"] for at in range(0, 400, 70)]
    assert np.array_equal(whole, np.concatenate(parts)) and np.isfinite(whole).all()


def poisoned(rate, learnt, n=4000, d=24, seed=0):
    """20 classes of pairs; poison has captions of its own, and pictures of its own where it was learnt."""
    draw = np.random.default_rng(seed)
    centre = draw.normal(size=(21, d)) * 2
    label = draw.integers(0, 20, n)
    count = round(rate * n)
    shown = label.copy()
    if learnt:
        shown[:count] = 20
    label[:count] = 20
    image = centre[shown] + draw.normal(size=(n, d))
    text = centre[label] + 0.1 * draw.normal(size=(21, 6, d))[label, draw.integers(0, 6, n)]
    return image.astype(np.float32), text.astype(np.float32), np.arange(n) < count


@pytest.mark.parametrize(("rate", "learnt"), [(0.005, True), (0.005, False), (0.03, False)])
def test_poison_comes_first_whether_the_model_learnt_it_or_not(rate, learnt):
    image, text, truth = poisoned(rate, learnt)
    top = clipscan.score(image, text=text).top(truth.sum())
    assert truth[top].mean() > 0.9


@pytest.mark.parametrize(("share", "pictures"), [(0.02, 1), (0.2, 1), (0.2, 5)])
@pytest.mark.parametrize(("learnt", "captions"), [(True, "one"), (True, "many"), (False, "one")])
def test_copies_of_clean_pictures_do_not_hide_poison(share, pictures, learnt, captions):
    """Of one caption each; or of any, which are wrong captions and may hide others."""
    image, text, truth = poisoned(0.005, learnt)
    count = round(share * len(image))
    source = len(image) - count - 1 - np.arange(count) % pictures
    image[-count:] = image[source]
    if captions == "one":
        text[-count:] = text[source]
    top = clipscan.score(image, text=text).top(truth.sum())
    assert truth[top].mean() > 0.9


def test_a_lonely_clean_picture_ranks_below_poison_that_keeps_company():
    image, text, truth = poisoned(0.005, True)
    image[-5:] *= 4  # odd pictures, each alone, with captions as everybody's
    scores = clipscan.score(image, text=text).scores
    assert scores[truth].min() > scores[-5:].max()


def test_equal_rows_and_a_zero_vector_have_finite_scores():
    image, text = pairs(300)
    image[:150], text[:60] = image[0], 0
    scores = clipscan.score(image, text=text, k=5).scores
    assert np.isfinite(scores).all()
    assert np.ptp(clipscan.score(np.ones((200, 4), np.float32), k=5).scores) == 0


def test_nan_has_no_surprise_and_the_highest_a_finite_one():
    known = np.array([1.0, 2.0, 3.0, 3.0])
    got = consensus.surprise(np.array([np.nan, 9.0, 3.0, 1.0, 0.0]), known)
    assert got == pytest.approx([0, -math.log(0.5 / 4.5), -math.log(2.5 / 4.5), 0, 0])
