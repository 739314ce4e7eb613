"""The example that a minute is enough for, run for real: all figures are there, nothing is done twice, a
failure stops nobody.
"""

import json

import numpy as np
import pytest
from lab_runner_helpers import SMOKE, changed, lab, table, training

from clipscan.lab.attacks.poisoning import read_truth
from clipscan.lab.grid.cell_scores import CellVectors
from clipscan.lab.grid.config import read_config
from clipscan.lab.grid.runner import run


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The folder of a finished run, and what was said."""
    out = tmp_path_factory.mktemp("smoke")
    done = lab(SMOKE, "--out", out)
    assert done.exit_code == 0, done.output
    return out, done.output


@training
def test_every_column_that_was_asked_for_has_a_row(smoke):
    out, said = smoke
    assert "3 cells, 0 of them trained already" in said and "3 cells finished" in said
    rows = table(out / "rows.csv")
    poisoned = [row for row in rows if row["auroc"]]
    keys = {(r["attack"], r["epoch"], r["score"], r["reference"], r["compat"]) for r in poisoned}
    columns = [("consensus", "", ""), ("cosine", "", ""), ("dao", "batch 2048", "detect-clip")]
    columns += [(score, reference, "") for score in ("kdist", "dao") for reference in ("64x2", "256x2")]
    assert len(keys) == len(poisoned) == 2 * 2 * len(columns)
    assert {key[2:] for key in keys} == set(columns)
    for row in poisoned:
        assert float(row["auroc_low"]) <= float(row["auroc"]) <= float(row["auroc_high"])
        assert float(row["recall_0.1"]) <= float(row["recall_2"]) <= float(row["recall_10"])
        assert float(row["recall_0.1"]) <= float(row["recall_0.2"]) and 0 <= float(row["fpr_95"]) <= 1
        assert float(row["fpr_95"]) <= float(row["false_positive_share"])
        assert 0 <= float(row["accuracy"]) <= 1 and row["poisoned"] in ("8", "20")


@training
def test_where_nothing_is_planted_a_row_says_what_would_be_dropped(smoke):
    clean = {row["epoch"]: row for row in table(smoke[0] / "rows.csv") if float(row["rate"]) == 0}
    assert clean.keys() == {"1", "2"} and all(row["auroc"] == "" for row in clean.values())
    (cell,) = (smoke[0] / "cells").glob("placeholder-banana-0-*")
    for epoch, row in clean.items():
        dropped = len(np.load(cell / f"epoch0{epoch}" / "suspects.npy"))
        assert int(row["flagged"]) == dropped and float(row["flagged_share"]) == pytest.approx(dropped / 400)


def defended(out, name):
    (found,) = [row for row in table(out / "defended.csv") if row["defence"] == name]
    return found


@training
def test_models_tell_behaviour_and_groups(smoke):
    models = table(smoke[0] / "models.csv")
    assert len(models) == 6
    for row in models:
        flagged, poison, planted = (int(row[name]) for name in ("flagged", "flagged_poison", "poisoned"))
        assert (row["precision"] == "") == (flagged == 0)
        assert not flagged or float(row["precision"]) == pytest.approx(poison / flagged, abs=1e-6)
        assert (row["planted_dropped"] == "") == (planted == 0)
    placeholders = [row for row in models if row["attack"] == "placeholder" and row["poisoned"] == "20"]
    assert [row["group_rank"] for row in placeholders] == ["1", "1"]
    assert all(row["group_share"] == "1" and row["success"] == "" for row in placeholders)


@training
def test_training_in_spite_of_poison_has_its_outcome(smoke):
    out = smoke[0]
    again = defended(out, "drop")
    (plain,) = [r for r in table(out / "models.csv") if r["attack"] == "badnets" and r["epoch"] == "2"]
    assert (again["attack"], again["epoch"]) == ("badnets", "2")
    assert again["dropped"] == plain["flagged"]
    assert int(again["poison_left"]) == 8 - int(plain["flagged_poison"])
    safe, parts = defended(out, "safeclip"), table(out / "partitions.csv")
    assert [part["epoch"] for part in parts] == ["3", "4"] and parts[-1]["poison_safe"] == safe["poison_left"]
    assert int(safe["dropped"]) == 400 - int(parts[-1]["safe"])
    assert all(0 <= float(one["accuracy_after"]) <= 1 for one in (again, safe))


@training
def test_training_again_leaves_out_what_is_dropped(smoke):
    out = smoke[0]
    cell = next((out / "cells").glob("badnets*"))
    chosen = cell / "epoch02" / "suspects.npy"
    before = chosen.read_bytes()
    planted = read_truth(cell / "truth.parquet")
    pairs = CellVectors.of(cell / "epoch02" / "run").identities
    poison = [row for row, pair in enumerate(pairs) if pair in planted]
    clean = [row for row in range(4) if row not in poison]
    np.save(chosen, np.array(poison[1:] + clean[:2]))
    said = lab(SMOKE, "--out", out, "--only", "badnets").output
    assert "training again without 9 pairs" in said and "391 pairs to train on" in said
    again = defended(out, "drop")
    assert (again["dropped"], again["poison_left"]) == ("9", "1")
    assert again["accuracy_after"] != "" and not list(out.rglob("dataset"))
    chosen.write_bytes(before)


@training
def test_what_is_finished_is_not_done_again(smoke):
    out = smoke[0]
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}
    rows = (out / "rows.csv").read_bytes()
    assert "3 cells, 3 of them trained already" in lab(SMOKE, "--out", out).output
    after = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}
    assert after == before and (out / "rows.csv").read_bytes() == rows
    assert not list(out.rglob("dataset"))  # poisoned copies are made again where they are needed


@training
def test_a_new_score_is_all_that_is_computed_and_again_means_all(smoke, tmp_path):
    out = smoke[0]
    more = changed(tmp_path / "more.toml", ('["consensus", "kdist", "dao"', '["lof", "dao"'))
    cell = next((out / "cells").glob("badnets*")) / "epoch01" / "figures.json"
    known = json.loads(cell.read_text())
    for one in known["scores"].values():
        one["auroc"], one["code"] = 0.125, "earlier"
    cell.write_text(json.dumps(known))
    kept = lab(more, "--out", out, "--only", "badnets")
    assert "figures were made by other score code" in kept.output and "--again" in kept.output

    def values(score):
        first = [r for r in table(out / "rows.csv") if (r["attack"], r["epoch"]) == ("badnets", "1")]
        return {row["auroc"] for row in first if row["score"] == score}

    assert values("dao") == {"0.125"} and values("lof") and "0.125" not in values("lof")
    assert "other score code" not in lab(SMOKE, "--out", out, "--again", "--only", "*badnets*").output
    assert values("dao") and "0.125" not in values("dao")


@training
def test_killed_on_its_way_it_goes_on_to_the_same_rows(smoke, tmp_path):
    plan = read_config(SMOKE)

    class Killed(BaseException):
        pass

    def kill(line):
        if "epoch 1/2" in line:
            raise Killed

    with pytest.raises(Killed):
        run(plan, tmp_path, only="placeholder-banana-0.05", say=kill)
    assert table(tmp_path / "rows.csv") == []
    lines = []
    run(plan, tmp_path, only="placeholder-banana-0.05", say=lines.append)
    assert any("going on after epoch 1 of 2" in line for line in lines) or any(
        "epoch 2/2" in x for x in lines
    )
    whole = [row for row in table(smoke[0] / "rows.csv") if row["attack"] == "placeholder" and row["auroc"]]
    assert table(tmp_path / "rows.csv") == whole


@training
def test_a_cell_that_fails_is_reported_and_stops_nobody(smoke, tmp_path):
    broken = changed(
        tmp_path / "broken.toml",
        ("[[cases]]", "[[cases]]\nattack = 'clean-label:badnets'\ntarget = 'zebra'\nrates = 0.01\n[[cases]]"),
    )
    done = lab(broken, "--out", smoke[0])
    assert done.exit_code == 1
    assert "FAILED scenes/clean-label-badnets-zebra" in done.output and "needs 4 pairs" in done.output
    assert "3 cells finished" in done.output
