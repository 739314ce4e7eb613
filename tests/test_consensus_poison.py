"""consensus puts poison first, and lonely or copied clean pictures below it."""

import numpy as np
import pytest

import clipscan


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
