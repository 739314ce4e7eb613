"""Measures of a score: equal to scikit-learn's with ties; grades of a run join on identity."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.errors import InputError, RunError
from clipscan.lab.grid.evaluate import SHARES, grade
from clipscan.lab.grid.metrics import auroc, average_precision, fpr_at, recall_at

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
