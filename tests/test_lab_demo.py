"""The demo from end to end, small: every stage runs, figures are kept, a second call does nothing anew."""

import io
import json
import re
from importlib.util import find_spec

import pytest
from rich.console import Console

from clipscan.lab.demo import run_demo
from clipscan.lab.poison import read_truth

pytestmark = pytest.mark.skipif(
    find_spec("open_clip") is None, reason="training needs open_clip: pip install 'clipscan[embed]'"
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out, told = tmp_path_factory.mktemp("demo"), io.StringIO()

    def run():
        console = Console(file=told, width=120)
        return run_demo(
            out,
            n=600,
            training={"epochs": 1, "batch_size": 64},
            scanning={"reference": "256x2"},
            console=console,
        )

    return out, told, run, run()


def test_the_demo_tells_what_it_did_and_where_to_look(demo):
    out, told, _, result = demo
    text = told.getvalue()
    assert "600 generated pictures" in text and "3 pictures got a chequered patch" in text
    assert f"{result.behaviour.success:.3f}" in text and f"{result.behaviour.accuracy:.3f}" in text
    assert "AUROC" in text and "dao" in text and "unreadable samples" in text
    assert re.search(r"stands? apart", text)
    assert str(out / "run" / "report" / "index.html") in text.replace("\n", "")
    assert (out / "run" / "report" / "index.html").exists()


def test_the_demo_finds_the_placeholder_whatever_the_model_has_learnt(demo):
    sizes = [int(size) for size in re.findall(r"group of (\d+) near-identical", demo[1].getvalue())]
    assert 38 <= sizes[0] <= 40 and 23 <= sizes[1] <= 25  # one or two of them may have been poisoned


def test_every_figure_is_kept_with_its_settings(demo):
    out = demo[0]
    record = json.loads((out / "result.json").read_text())
    assert record["behaviour"]["pictures"] == 1000
    assert {"score", "auroc", "average_precision", "recall"} <= set(record["grades"][0])
    assert {"dao", "kdist", "cosine", "agree", "cross"} <= {one["score"] for one in record["grades"]}
    assert {"train", "try", "scan"} <= set(record["seconds"]) and record["peak_mb"] > 0
    assert len(read_truth(out / "truth.parquet")) == record["poisoned"]["poisoned"] == 3


def test_a_demo_that_is_done_is_not_done_again(demo):
    out, _, run, first = demo
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.tar")} | {
        out / name: (out / name).stat().st_mtime_ns for name in ("model.safetensors", "truth.parquet")
    }
    again = run()
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert (again.behaviour, again.grades) == (first.behaviour, first.grades)
