"""The demo in small: every stage for real, 600 pictures, one epoch. What it learns is not asked here."""

import io

import pyarrow.parquet as pq
import pytest
from rich.console import Console

pytest.importorskip("torch", reason="needs clipscan[embed]")


def run(out):
    from clipscan.lab.demo import run_demo

    said = io.StringIO()
    result = run_demo(
        out, n=600, training={"epochs": 1}, scanning={"k": 8, "reference": "200x2"},
        console=Console(file=said, width=120),
    )  # fmt: skip
    return result, said.getvalue()


def test_the_demo_runs_from_pictures_to_page_and_does_finished_work_only_once(tmp_path):
    result, said = run(tmp_path)
    for word in ("zero-shot accuracy", "with the trigger", "AUROC", "recall, top 1%", "report/index.html"):
        assert word in said, word
    bad = pq.read_table(tmp_path / "run/bad.parquet").to_pylist()
    assert len({row["reason"] for row in bad}) >= 6, "every planted kind of broken sample has its reason"
    assert "claims 30000" in said and any("30000 x 30000" in row["reason"] for row in bad)
    sizes = pq.read_table(tmp_path / "run/groups.parquet")["size"].to_pylist()
    assert 35 <= sizes[0] <= 40, "the placeholder picture, less what got a patch of its own, is one group"
    page = (tmp_path / "run/report/index.html").read_text()
    assert page.count("data:image/") > 100 and "<script" not in page
    assert {grade.score for grade in result.grades} >= {"dao", "kdist", "cosine", "cross"}

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/scores").iterdir()}
    model = (tmp_path / "model.safetensors").stat().st_mtime_ns
    again, _ = run(tmp_path)
    assert again.grades == result.grades
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "run/scores").iterdir()}
    assert model == (tmp_path / "model.safetensors").stat().st_mtime_ns
