"""The demo from end to end, small: every stage runs, figures are kept, a second call does nothing anew."""

import io
import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pyarrow.parquet as pq
import pytest
from disturbance import SEED
from rich.console import Console

from clipscan.data import open_dataset
from clipscan.embed.checkpoint import read_state, state_hash
from clipscan.lab.attacks.poisoning import read_truth
from clipscan.lab.demo import (
    COPIES,
    LEARNT,
    PLACEHOLDERS,
    against_the_truth,
    findings,
    grades_table,
    run_demo,
)
from clipscan.lab.grid.evaluate import SHARES, Grade
from clipscan.lab.grid.experiment import Further, Result, learn
from clipscan.lab.scenes.dataset import Scenes
from clipscan.pipeline import scan
from clipscan.run.run_folder import run_record
from clipscan.scores.table import SCORES

pytestmark = pytest.mark.skipif(
    find_spec("open_clip") is None, reason="training needs open_clip: pip install 'clipscan[embed]'"
)
N, TRAINING = 600, {"epochs": 1, "batch_size": 64}
NEVER = Further(success=1.1, epochs=1, rounds=2)  # no success will do


def demonstrate(out):
    """(result, what was said)."""
    told = io.StringIO()
    result = run_demo(
        out,
        n=N,
        seed=SEED,
        training=TRAINING,
        scanning={"reference": "256x2"},
        learnt=NEVER,
        console=Console(file=told, width=120),
    )
    return result, told.getvalue()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    return out, *demonstrate(out)


def test_the_demo_tells_what_it_did_and_where_to_look(demo):
    out, result, text = demo
    assert f"{N} generated pictures" in text and "3 pictures got a chequered patch" in text
    assert f"{result.behaviour.success:.3f}" in text and f"{result.behaviour.accuracy:.3f}" in text
    assert "AUROC" in text and "dao" in text and "unreadable samples" in text
    assert "pairs are convicted" in text
    assert str(out / "run" / "report" / "index.html") in text.replace("\n", "")
    assert (out / "run" / "report" / "index.html").exists()


def test_the_training_goes_on_to_its_bound_while_the_trigger_does_not_work(demo):
    out, result, text = demo
    assert result.trainings == 1 + NEVER.rounds == 3 and text.count("on 1,000 held-out pictures") == 3
    assert f"NOT learnt: after 3 trainings it works on {result.behaviour.success:.1%}" in text
    digests = {state_hash(read_state(out / f"model{number}.safetensors")) for number in ("", "-2", "-3")}
    assert len(digests) == 3 and run_record(out / "run")["embed"]["weights_sha256"] in digests


@pytest.mark.parametrize("works_after", [1, 2])
def test_the_training_ends_when_the_trigger_works(demo, works_after):
    out, first, _ = demo
    result, tried = Result(first.poisoned, {}), iter([0.1, 0.9] if works_after == 2 else [0.9])
    model = learn(
        result,
        open_dataset(out / "dataset"),
        out,  # where all three models are
        {**TRAINING, "seed": SEED},
        NEVER._replace(success=0.9),
        lambda encoder: first.behaviour._replace(success=next(tried)),
        print,
    )
    assert result.trainings == works_after and result.behaviour.success == 0.9
    assert model.name == ("model.safetensors", "model-2.safetensors")[works_after - 1]


def test_the_command_fails_where_the_trigger_is_not_learnt(demo, monkeypatch):
    from typer.testing import CliRunner

    from clipscan.cli import app

    result = demo[1]
    for success, code in ((LEARNT.success, 0), (LEARNT.success - 0.01, 1)):
        ended = replace(result, behaviour=result.behaviour._replace(success=success))
        monkeypatch.setattr("clipscan.lab.demo.run_demo", lambda *_, ended=ended, **__: ended)
        assert CliRunner().invoke(app, ["demo"]).exit_code == code


def test_what_is_called_planted_is_what_the_truth_says(tmp_path):
    vectors = np.random.default_rng(SEED).normal(size=(1000, 8)).astype(np.float32)
    vectors[:30] *= 40 / np.linalg.norm(vectors[:30], axis=1, keepdims=True)
    np.save(tmp_path / "vectors.npy", vectors)
    scan(tmp_path / "vectors.npy", out=tmp_path / "run", k=4, method="kdist", reference="200x2", fraction=0.1)
    suspects = pq.read_table(tmp_path / "run/suspects.parquet", columns=["shard", "key"]).to_pylist()
    pairs = [(row["shard"], row["key"]) for row in suspects]
    apart = run_record(tmp_path / "run")["estimate"]["number"]
    order, cut = against_the_truth(tmp_path / "run", set(pairs[:20]))
    assert "by kdist: 20 of the 20 planted pairs are among the first 20 rows" in order
    assert 20 < apart < 100 and cut.endswith(f", 20 of them planted, {apart - 20} not")
    unseen = {("elsewhere", str(number)) for number in range(10)}
    order, cut = against_the_truth(tmp_path / "run", unseen | set(pairs[5:10]) | set(pairs[90:95]))
    assert "5 of the 20 planted pairs are among the first 20 rows" in order
    assert cut.endswith(f", 5 of them planted, {apart - 5} not")


def test_the_demo_finds_the_placeholder_whatever_the_model_has_learnt(demo):
    out = demo[0]
    scenes, truth = (
        Scenes(N, seed=SEED, placeholders=PLACEHOLDERS, copies=COPIES),
        read_truth(out / "truth.parquet"),
    )
    alike = {(f"{i // 1000:05d}.tar", f"{i % 1000:09d}") for i in scenes.placeholders} - set(truth)
    groups = pq.read_table(out / "run/groups.parquet", filters=[("kind", "=", "copies")]).to_pylist()
    members = [{(one["shard"], one["key"]) for one in group["members"]} for group in groups]
    assert any(alike <= group for group in members)  # the same bytes, but for those that were poisoned
    assert f"group of {groups[0]['size']} near-identical pictures" in findings(out / "run")[0]


def test_every_figure_is_kept_with_its_settings(demo):
    out = demo[0]
    record = json.loads((out / "result.json").read_text())
    assert record["behaviour"]["pictures"] == 1000
    assert {"score", "auroc", "average_precision", "recall"} <= set(record["grades"][0])
    scores = {one["score"] for one in record["grades"]}
    assert {"consensus", "misfit", "dao", "kdist", "cosine", "agree", "cross"} <= scores <= set(SCORES)
    assert {"train", "try", "scan"} <= set(record["seconds"]) and record["peak_mb"] > 0
    assert len(read_truth(out / "truth.parquet")) == record["poisoned"]["poisoned"] == 3


def test_a_demo_that_is_done_is_not_done_again(demo):
    out, first, _ = demo
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.tar")} | {
        out / name: (out / name).stat().st_mtime_ns for name in ("model.safetensors", "truth.parquet")
    }
    again, _ = demonstrate(out)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert (again.behaviour, again.grades) == (first.behaviour, first.grades)


def test_the_table_of_scores_is_whole_on_a_terminal_of_eighty_columns():
    told = io.StringIO()
    grade = Grade("consensus", 0.999, 0.999, (0.25,) * len(SHARES))
    Console(file=told, width=80).print(grades_table([grade]))
    assert "consensus" in told.getvalue() and told.getvalue().count("0.25") == len(SHARES)
    assert "…" not in told.getvalue()
