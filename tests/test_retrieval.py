"""What is found of pairs, and when that is more than chance."""

import numpy as np
import pytest

from clipscan.errors import InputError
from clipscan.scores.retrieval import LEVEL, Retrieval, Way, different, least, retrieval

RNG = np.random.default_rng(0)


def pairs(m, d=16, noise=0.0):
    """Unit-like pictures, and captions that are the pictures themselves but for noise."""
    image = RNG.normal(size=(m, d))
    return image, image + noise * RNG.normal(size=(m, d))


def ranks_by_definition(cosine):
    """How many candidates are at least as near as the own one, which is among them."""
    return [sum(other >= row[i] - 1e-9 for other in row) for i, row in enumerate(cosine.tolist())]


def test_ranks_are_those_of_the_definition_both_ways():
    image, text = pairs(60, noise=1.5)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
    cosine = unit[0] @ unit[1].T
    found = retrieval(image, text)
    for way, table in ((found.captions, cosine), (found.pictures, cosine.T)):
        rank = np.array(ranks_by_definition(table))
        assert way == Way((rank == 1).sum(), (rank <= 10).sum(), np.median(rank))
    assert found.captions != found.pictures


def test_pairs_that_fit_are_all_found_and_the_length_of_vectors_does_not_count():
    image, text = pairs(200)
    found = retrieval(image, text * RNG.uniform(0.1, 9, size=(200, 1)))
    assert found == Retrieval(200, Way(200, 200, 1.0), Way(200, 200, 1.0)) and found.learnt


def test_a_model_that_sends_everything_to_one_place_finds_nothing():
    one = np.ones((200, 16))
    found = retrieval(one, one)
    assert found.captions == found.pictures == Way(0, 0, 200.0) and not found.learnt
    assert retrieval(np.zeros((200, 16)), one).found == 0, "nor do vectors without a direction"


def test_a_model_that_ignores_the_captions_is_at_chance_however_it_ranks_them():
    image, text = RNG.normal(size=(2, 300, 16))
    liked = text + 50 * RNG.normal(size=16)  # the same few captions are near to every picture
    assert 5 <= retrieval(np.abs(image), np.abs(liked)).captions.ten <= 20
    for m in (50, 100, 1000):
        hits = [retrieval(*RNG.normal(size=(2, m, 16))) for _ in range(40)]
        assert not any(found.learnt for found in hits)
        assert abs(np.mean([found.captions.ten for found in hits]) - 10) < 3, "10, however many pairs"


@pytest.mark.parametrize("mean", [1, 10])
def test_the_bound_is_the_tail_of_poissons_distribution(mean):
    from math import exp, factorial

    def tail(number):
        return sum(exp(-mean) * mean**i / factorial(i) for i in range(number, number + 80))

    assert tail(least(mean)) <= LEVEL < tail(least(mean) - 1)


def test_what_is_near_chance_is_said_to_mean_nothing():
    near = Retrieval(1000, Way(2, least(10) - 1, 400.0), Way(2, 900, 3.0))
    assert not near.learnt and "HARDLY LEARNT" in near.doubt() and f"{least(10) - 1} of 1,000" in near.doubt()
    above = near._replace(captions=Way(2, least(10), 400.0))
    assert above.learnt and above.doubt() == ""
    assert "by chance for 1.0%" in above.words()


def test_too_few_different_pairs_tell_nothing():
    found = retrieval(*pairs(least(1) - 1))
    assert not found.tells and "too few" in found.doubt() and found.record()["learnt"] is None
    assert retrieval(*pairs(least(1))).learnt, "a perfect model shows it from here on"
    assert not retrieval(np.ones((1, 4)), np.ones((1, 4))).tells


def test_a_record_is_read_again_and_other_things_are_not():
    found = retrieval(*pairs(120, noise=1.0))
    assert Retrieval.read(found.record()) == found
    for other in (
        None,
        {},
        [],
        {"pairs": 3},
        {"skipped": "no captions"},
        {"pairs": 1, "captions": 2, "pictures": 3},
    ):
        assert Retrieval.read(other) is None


def test_no_two_pairs_of_a_sample_share_a_caption_or_a_picture():
    caption, picture = RNG.integers(0, 40, 500), RNG.integers(0, 60, 500)
    order = RNG.permutation(500)
    rows = different(order, caption, picture)
    assert len(set(caption[rows])) == len(set(picture[rows])) == len(rows) > 15
    place = np.argsort(order)
    assert (np.diff(place[rows]) > 0).all() and rows[0] == order[0]
    assert (different(order, caption, picture, count=7) == rows[:7]).all()


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="pairs"):
        retrieval(np.ones((3, 4)), np.ones((2, 4)))
