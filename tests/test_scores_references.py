"""Which rows a score is compared with: draws by seed and number, sizes, given arrays."""

import numpy as np
from compare import assert_same_scores
from score_helpers import pairs

import clipscan
from clipscan.engine import as_rows, reference
from clipscan.scores import LOCAL
from clipscan.scores.references import Scale, identify
from clipscan.scores.result import count_of


def test_draws_differ_by_seed_and_number_and_nest_by_size():
    image, _ = pairs(300)
    result = clipscan.score(image, method="dao", reference="32x2,64x2", k=4)
    small, large = result.references["32x2"], result.references["64x2"]
    assert all(set(a) < set(b) for a, b in zip(small, large, strict=True))
    assert set(large[0]) != set(large[1])
    other = clipscan.score(image, method="dao", reference="64x2", k=4, seed=1)
    assert set(other.references["64x2"][0]) != set(large[0])


def test_every_row_is_drawn_about_equally_often():
    identity = identify(as_rows(pairs(200)[0]))
    drawn = [identity.sample(Scale("20", 20, 400), draw, seed=0) for draw in range(400)]
    times = np.bincount(np.concatenate(drawn), minlength=200)  # binomial, mean 40, standard deviation 6
    assert times.min() > 10 and times.max() < 80


def test_a_share_is_rounded_up_to_whole_rows_in_decimal():
    assert [count_of(0.07, 100), count_of(0.011, 200), count_of(1e-9, 10), count_of(0, 10)] == [7, 3, 0, 0]


def test_a_reference_larger_than_the_set_is_the_whole_set():
    image, _ = pairs(100)
    assert (clipscan.score(image, k=5).scores == clipscan.score(image, k=5, reference="all").scores).all()


def test_a_given_reference_array_is_used_as_it_is():
    image, _ = pairs(100)
    rows = pairs(60, seed=9)[0]
    result = clipscan.score(image, reference=rows, k=5, method=list(LOCAL))
    among = reference.density(*reference.knn(rows, rows, 5, np.arange(60), np.arange(60)))
    expected = reference.density(*reference.knn(image, rows, 5, None, None), among)
    assert_same_scores(result.columns, {name: expected[name] for name in LOCAL}, rtol=1e-4)
