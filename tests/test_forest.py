"""Isolation Forest: rows that few random cuts isolate score high, like scikit-learn's, and reproducibly."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.scores import forest
from clipscan.scores.forest import expected_path, grow, iforest


def cloud(seed: int, n: int = 800, outliers: int = 40, width: int = 16) -> np.ndarray:
    """A Gaussian with a spread that differs by column, the last rows far out in random directions."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, width)) * np.linspace(0.1, 3.0, width)
    rows[n - outliers :] *= rng.uniform(2.0, 5.0, (outliers, 1))
    return rows.astype(np.float32)


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


def scikit_learn(rows: np.ndarray, seed: int) -> np.ndarray:
    ensemble = pytest.importorskip("sklearn.ensemble", reason="the oracle: pip install scikit-learn")
    return -ensemble.IsolationForest(n_estimators=300, random_state=seed).fit(rows).score_samples(rows)


def test_rows_rank_as_in_scikit_learn():
    ours_theirs, theirs_theirs = [], []
    for seed in range(3):
        rows = cloud(seed)
        ours, theirs = iforest(rows, grow(rows, trees=300, seed=seed)), scikit_learn(rows, seed)
        ours_theirs.append(np.corrcoef(ranks(ours), ranks(theirs))[0, 1])
        theirs_theirs.append(np.corrcoef(ranks(scikit_learn(rows, seed + 99)), ranks(theirs))[0, 1])
        assert np.abs(ours - theirs).mean() < 0.01  # measured: 0.005, as between two seeds of theirs
        assert set(np.argsort(-ours)[:20]) <= set(np.argsort(-theirs)[:40])
    assert np.mean(ours_theirs) > 0.9
    assert np.mean(ours_theirs) > np.mean(theirs_theirs) - 0.02


def test_the_normalising_constant_is_the_mean_depth_of_a_random_search_tree():
    mean = {1: Fraction(0)}  # leaves n: one cut, then both sides, every split of the leaves alike
    for n in range(2, 60):
        below = sum((Fraction(2, n - 1) * Fraction(i, n) * mean[i] for i in range(1, n)), Fraction(0))
        mean[n] = 1 + below
        assert expected_path(n) == pytest.approx(float(mean[n]), rel=1e-14)
    assert expected_path(1) == 0.0
    assert expected_path(2) == 1.0
    assert expected_path(256) == pytest.approx(2 * (np.log(255) + 0.5772156649) - 2 * 255 / 256, abs=0.005)


def test_cuts_fall_into_gaps_by_their_length():
    # 0 - 1 - - 3: the first cut leaves 0 alone in one tree of three, 3 in two of three; the rest takes two.
    rows = np.array([[0.0], [1.0], [3.0]], np.float32)
    score = iforest(rows, grow(rows, trees=5_000))
    path = -np.log2(score) * expected_path(3)
    np.testing.assert_allclose(path, [5 / 3, 2, 4 / 3], atol=0.04)  # six standard errors


def test_every_varying_column_is_cut_equally_often():
    rows = cloud(0, width=8)
    rows[:, [2, 5]] = 7.0
    grown = grow(rows, trees=600, sample=2)
    count = np.bincount(grown.column[0], minlength=8)
    assert count[[2, 5]].tolist() == [0, 0]
    assert np.abs(np.delete(count, [2, 5]) - 100).max() < 50


def test_a_lone_row_scores_above_a_crowd_of_copies():
    rows = np.concatenate([np.zeros((200, 4)), np.ones((20, 4)), np.full((1, 4), 9.0)]).astype(np.float32)
    crowd, group, lone = iforest(rows[[0, 200, 220]], grow(rows))
    assert crowd < group < lone
    assert crowd < 0.5 < lone


@pytest.mark.parametrize("m", [1, 2, 300])
def test_nothing_stands_out_of_equal_rows(m):
    rows = np.full((m, 5), 3.0, np.float32)
    queries = np.concatenate([rows, np.full((1, 5), 1e6, np.float32)])
    assert iforest(queries, grow(rows)).tolist() == [0.5] * (m + 1)


def test_no_rows_get_no_scores():
    assert iforest(np.empty((0, 16), np.float32), grow(cloud(0))).shape == (0,)


@settings(deadline=None, max_examples=40)
@given(m=st.integers(1, 70), n=st.integers(1, 40), width=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_any_row_arrives_at_a_leaf_and_scores_between_0_and_1(m, n, width, seed):
    rng = np.random.default_rng(seed)
    grown = grow(rng.integers(-2, 3, (m, width)).astype(np.float32), trees=7, seed=seed)
    score = iforest(rng.normal(0, 10, (n, width)), grown)
    assert score.dtype == np.float64
    assert ((score > 0) & (score < 1)).all()


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 60), steps=st.integers(1, 400), seed=st.integers(0, 2**32))
def test_a_score_does_not_depend_on_the_rows_beside_it(n, steps, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 5)).astype(np.float32)
    grown = grow(rows, trees=11, seed=seed)
    order = rng.permutation(n)
    whole = iforest(rows, grown)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "STEPS", steps)
        assert iforest(rows[order], grown).tobytes() == whole[order].tobytes()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), powers=st.lists(st.integers(-8, 8), min_size=4, max_size=4))
def test_the_unit_of_a_column_does_not_matter(seed, powers):
    rows = np.random.default_rng(seed).standard_normal((50, 4)).astype(np.float32)
    scaled = rows * np.exp2(np.array(powers, np.float32))
    expected = iforest(rows, grow(rows, trees=10, seed=seed))
    assert iforest(scaled, grow(scaled, trees=10, seed=seed)).tobytes() == expected.tobytes()


def test_the_seed_decides_the_forest_and_nothing_else_does():
    rows = cloud(1)
    one, again, other = (iforest(rows, grow(rows, seed=seed)) for seed in (5, 5, 6))
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


def test_neighbouring_floats_can_be_told_apart():
    low = np.float32(1.0)
    rows = np.array([[low], [np.nextafter(low, np.float32(2))]])
    grown = grow(rows, trees=50)
    assert (grown.threshold[0] == low).all()
    assert not np.isnan(grown.path).any()


def test_rows_may_be_half_precision_on_disk(tmp_path):
    rows = cloud(2).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = iforest(rows.astype(np.float32), grow(rows.astype(np.float32)))
    assert iforest(mapped, grow(mapped)).tobytes() == expected.tobytes()
