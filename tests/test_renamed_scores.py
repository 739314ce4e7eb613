"""Scores that have a new name: the old one works, with a warning, and runs from before are understood."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import clipscan
from clipscan.cli import app
from clipscan.lab.grid.cell_scores import Asked
from clipscan.report import glossary
from clipscan.run import scoring
from clipscan.run.options import Ranking

OLD = pytest.mark.parametrize("old, new", [("hubs", "antihub")])
X = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)


@pytest.fixture
def vectors(tmp_path):
    """A dataset of precomputed picture vectors."""
    (tmp_path / "data/img_emb").mkdir(parents=True)
    np.save(tmp_path / "data/img_emb/img_emb_0.npy", X)
    return tmp_path / "data"


@OLD
def test_the_old_name_of_a_score_gives_the_column_of_the_new_and_warns_the_caller(old, new):
    graph = clipscan.knn(X, k=4)
    with pytest.warns(DeprecationWarning, match=f"{old} is named {new} now") as warned:
        found = clipscan.score(graph=graph, method=["dao", old])
    assert warned[0].filename == __file__ and [*found.columns] == ["dao", new]
    with pytest.warns(DeprecationWarning, match=f"{old} is named {new} now") as warned:
        column = found[old]
    assert warned[0].filename == __file__
    assert (column == clipscan.score(graph=graph, method=new).scores).all()
    with pytest.warns(DeprecationWarning, match=new):
        assert (clipscan.score(graph=graph, method=old).scores == column).all()


@OLD
def test_a_scan_and_the_laboratory_take_the_old_name(old, new, vectors, tmp_path):
    with pytest.warns(DeprecationWarning, match=f"{old} is named {new} now") as warned:
        done = clipscan.scan(vectors, out=tmp_path / "run", k=4, reference="30x2", method=old)
    assert warned[0].filename == __file__
    assert (done.table()["score"].to_numpy() == done.table()[new].to_numpy()).all()
    with pytest.warns(DeprecationWarning, match=new):
        assert Ranking(method=old) == Ranking(method=new)
    with pytest.warns(DeprecationWarning, match=new):
        assert Asked(("dao", old)).checked().methods == ("dao", new)


@OLD
def test_the_command_takes_the_old_name_with_a_note(old, new, vectors, tmp_path):
    def scan(method):
        asked = ["--out", str(tmp_path / method), "--method", method, "--k", "4", "--reference", "30x2"]
        return CliRunner().invoke(app, ["scan", str(vectors), *asked])

    asked_old, asked_new = scan(old), scan(new)
    assert asked_old.exit_code == asked_new.exit_code == 0
    assert f"note: the score {old} is named {new} now" in asked_old.stderr.splitlines()
    assert "note:" not in asked_new.stderr
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in (old, new)]
    assert records[0]["score"]["method"] == records[1]["score"]["method"] == new


def test_a_run_from_before_is_scored_anew_and_not_refused(vectors, tmp_path, monkeypatch):
    scored = []
    make = scoring._make
    monkeypatch.setattr(scoring, "_make", lambda *given: (scored.append(1), make(*given))[1])
    with monkeypatch.context() as before:
        before.setattr(scoring, "RENAMED", {})
        for _ in range(2):
            clipscan.scan(vectors, out=tmp_path / "run", k=4, reference="30x2")
    assert len(scored) == 1
    for _ in range(2):
        clipscan.scan(vectors, out=tmp_path / "run", k=4, reference="30x2")
    assert len(scored) == 2


@OLD
def test_the_page_of_a_run_from_before_explains_its_column(old, new):
    assert glossary.about(old) == glossary.about(new) != ""
    assert glossary.about(f"{old}@30x2") == glossary.about(new)
