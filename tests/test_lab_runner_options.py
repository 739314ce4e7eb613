"""The laboratory's options, run for real: a base model and its heads, free captions, what is not there."""

import pytest
from lab_runner_helpers import SMOKE, changed, lab, table, training

from clipscan.errors import InputError
from clipscan.lab.grid.config import read_config
from clipscan.lab.grid.runner import run


@training
def test_a_model_may_go_on_from_a_clean_one_and_be_taken_apart_by_heads(tmp_path):
    fine_tuned = """models = ["clipscan-vit-32"]
epochs = 1
base = 1
lr = 1e-4
heads = 0.2"""
    config = changed(
        tmp_path / "heads.toml",
        ('models = ["clipscan-conv-32"]\nepochs = [1, 2]', fine_tuned),
        ('defences = ["drop", "safeclip"]', ""),
        ('[[cases]]\nattack = "placeholder"\nrates = [0, 0.05]', ""),
        ('methods = ["consensus", "kdist", "dao", "cosine"]', 'methods = "cosine"'),
    )
    said = lab(config, "--out", tmp_path / "out").output
    assert "1 epochs on the clean dataset" in said and "1 cells finished" in said
    (row,) = table(tmp_path / "out" / "heads.csv")
    assert row["model"] == "clipscan-vit-32 +1"
    assert len(row["blocks"].split()) == len(row["last_heads"].split()) == 6
    for name in ("success_mlp", "accuracy_auto", "auroc_head", "auroc_mlp", "flagged_clean"):
        assert 0 <= float(row[name]) <= 1, name
    assert "1 epochs on the clean" not in lab(config, "--out", tmp_path / "out").output


@training
def test_free_captions_are_asked_for_retrieval_and_planted_by_number(tmp_path):
    classes = 'classes = ["circle", "ring", "moon", "square", "triangle", "star", "heart", "cross"]'
    config = changed(
        tmp_path / "free.toml",
        (classes, "free_captions = true"),
        ('attack = "badnets"\noptions = { share = 0.25 }\nrates = 0.02', 'attack = "mmpoison"\npairs = 6'),
        ('defences = ["drop", "safeclip"]', 'options = { concept = "star" }\nrates = 0'),
        ('target = "banana"', 'target = "ring"'),
        ("epochs = [1, 2]", "epochs = 1"),
        ('[[cases]]\nattack = "placeholder"\nrates = [0, 0.05]', '[[cases]]\nattack = "targeted"\npairs = 9'),
        ('methods = ["consensus", "kdist", "dao", "cosine"]', 'methods = "cosine"'),
    )
    done = lab(config, "--out", tmp_path / "out")
    assert done.exit_code == 0 and "retrieval 0." in done.output, done.output
    models = table(tmp_path / "out" / "models.csv")
    assert [(row["poisoned"], row["rate"]) for row in models] == [("0", "0"), ("6", "0.015"), ("9", "0.0225")]
    for row in models:
        assert row["accuracy"] == "" and 0 <= float(row["retrieval"]) <= 1
        assert 0 <= float(row["false_alarm"]) <= 1 and 0 <= float(row["success"]) <= 1
    assert all(0 <= float(row["fpr_95"]) <= 1 for row in table(tmp_path / "out" / "rows.csv") if row["auroc"])


def test_what_cannot_be_opened_or_found_is_said_before_anything_is_done(tmp_path):
    missing = changed(tmp_path / "missing.toml", ('train = "scenes:400:0"', 'train = "no/tars"'))
    with pytest.raises(InputError, match=r"\[datasets.scenes\]: train: .*no/tars.*relative"):
        run(read_config(missing), tmp_path / "out")
    with pytest.raises(InputError, match="matches none of 3 cells, such as 'scenes/badnets-banana"):
        run(read_config(SMOKE), tmp_path / "out", only="sig")
    assert not (tmp_path / "out").exists()
