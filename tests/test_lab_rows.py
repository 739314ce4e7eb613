"""Figures of a column against the truth, their interval, and the tables that keep them."""

import numpy as np
import pytest

from clipscan.errors import RunError
from clipscan.lab.grid.metrics import auroc
from clipscan.lab.grid.result_rows import ROWS, auroc_interval, dropping, figures, read_rows, write_rows


def sample(n=4000, poison=60, shift=1.5, seed=0):
    draw = np.random.default_rng(seed)
    truth = np.arange(n) < poison
    return np.round(draw.normal(size=n) + shift * truth, 2), truth  # rounded: with ties


def test_the_interval_is_that_of_sets_redrawn_and_scored_anew():
    values, truth = sample()
    ours = auroc_interval(values, truth, resamples=2000)
    draw, redrawn = np.random.default_rng(1), []
    for _ in range(400):
        rows = np.concatenate([draw.choice(np.flatnonzero(truth), truth.sum()), np.flatnonzero(~truth)])
        redrawn.append(auroc(values[rows], truth[rows]))
    assert ours == pytest.approx(np.percentile(redrawn, (2.5, 97.5)), abs=0.01)
    assert ours[0] < auroc(values, truth) < ours[1]


def test_more_poison_narrows_the_interval_and_the_seed_decides_it():
    few, many = (auroc_interval(*sample(poison=count)) for count in (20, 2000))
    assert few[1] - few[0] > 3 * (many[1] - many[0])
    assert auroc_interval(*sample(), seed=3) == auroc_interval(*sample(), seed=3) != auroc_interval(*sample())


def test_false_positives_are_the_clean_rows_that_go_with_the_last_poison():
    truth = np.array([True, False, False, True, False, False])
    found = figures(np.array([9.0, 8, 7, 6, 6, 1]), truth)
    assert found["false_positives"] == 3 and found["false_positive_share"] == 0.75 == found["fpr_95"]
    assert figures(np.array([9.0, 1, 1, 8, 1, 1]), truth)["false_positives"] == 0
    unseen = figures(np.array([9.0, 1, 1, np.nan, 1, 1]), truth)  # not a number: suspects nobody
    assert unseen["false_positives"] == 4 and unseen["auroc"] == 0.5


def test_a_drop_is_worth_what_it_hits_and_an_empty_one_has_no_precision():
    assert dropping(8, 4, 5) == {"precision": 0.5, "planted_dropped": 0.8}
    assert dropping(0, 0, 5) == {"precision": None, "planted_dropped": 0.0}
    assert dropping(9, 0, 0) == {"precision": 0.0, "planted_dropped": None}


def test_an_alert_budget_is_a_five_hundredth_of_all_pairs():
    values, truth = np.arange(1000.0), np.zeros(1000, bool)
    truth[[999, 997, 5, 4]] = True
    assert figures(values, truth)["recall_0.2"] == 0.25


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [
        {"dataset": "d, with a comma", "options": '{"a": 1}', "rate": 0.005, "seed": 0, "auroc": 0.99999999},
        {"dataset": "", "success": float("nan"), "auroc": None, "k": 16, "false_positives": 0},
    ]
    write_rows(tmp_path, "rows", rows, ROWS)
    first, second = read_rows(tmp_path, "rows", ROWS)
    assert set(first) == set(ROWS.names)
    assert first["dataset"] == "d, with a comma" and first["options"] == '{"a": 1}' and first["auroc"] == 1.0
    assert second["dataset"] == "" and second["success"] is None and second["false_positives"] == 0


def test_a_folder_without_rows_or_with_other_ones_is_refused(tmp_path):
    with pytest.raises(RunError, match="clipscan lab run"):
        read_rows(tmp_path, "rows", ROWS)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="no table of this clipscan"):
        read_rows(tmp_path, "rows", ROWS)
