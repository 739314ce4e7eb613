"""A scan says whether its model has learnt the pairs that it scans: run.json, summary, page, status."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_helpers import scan_vectors
from typer.testing import CliRunner

from clipscan.cli import app
from clipscan.report.summary import summary
from clipscan.run import RunFolder
from clipscan.scores.retrieval import Retrieval

N = 400


def embeddings(folder, text_of, captions=None):
    """N pictures at random, captions that are text_of(pictures)."""
    rng = np.random.default_rng(3)
    image = rng.normal(size=(N, 16))
    sides = {"img": image, "text": text_of(image, rng)}
    for side, rows in sides.items():
        if rows is not None:
            (folder / f"{side}_emb").mkdir(parents=True)
            np.save(folder / f"{side}_emb/{side}_emb_0.npy", rows.astype(np.float16))
    if captions:
        (folder / "metadata").mkdir()
        pq.write_table(pa.table({"caption": captions}), folder / "metadata/metadata_0.parquet")
    return folder


def learnt(image, rng):
    return image + 0.1 * rng.normal(size=image.shape)


def unlearnt(image, rng):
    return rng.normal(size=image.shape)


def told(run):
    return Retrieval.read(json.loads((run / "run.json").read_text())["retrieval"])


def everywhere(run):
    """What summary, status and page say, in this order."""
    page = (run / "report/index.html").read_text()
    return ["\n".join(summary(run)), CliRunner().invoke(app, ["status", str(run)]).output, page]


def test_a_model_that_has_learnt_its_pairs_is_not_doubted(tmp_path):
    run = scan_vectors(embeddings(tmp_path / "data", learnt), tmp_path / "run").out
    found = told(run)
    assert found.pairs == N and found.learnt and found.captions.first > 0.9 * N
    for said in everywhere(run):
        assert "retrieval among 400 pairs" in said and "HARDLY LEARNT" not in said


def test_of_a_model_that_has_learnt_nothing_it_is_said_that_silence_means_nothing(tmp_path):
    run = scan_vectors(embeddings(tmp_path / "data", unlearnt), tmp_path / "run").out
    assert not told(run).learnt
    for said in everywhere(run):
        assert "THE MODEL HAS HARDLY LEARNT THESE PAIRS" in said and "means nothing" in said


def test_without_captions_it_is_said_why_nobody_knows(tmp_path):
    run = scan_vectors(embeddings(tmp_path / "data", lambda *_: None), tmp_path / "run").out
    assert told(run) is None
    for said in everywhere(run):
        assert "it is unknown whether the model has learnt these samples" in said


def test_equal_captions_do_not_compete_though_their_vectors_differ_by_rounding(tmp_path):
    captions = [f"caption {i % 150}" for i in range(N)]
    data = embeddings(tmp_path / "data", learnt, captions)
    assert told(scan_vectors(data, tmp_path / "run").out).pairs == 150


def test_the_sample_does_not_depend_on_names_and_is_not_drawn_twice(tmp_path, monkeypatch):
    data = embeddings(tmp_path / "data", unlearnt)
    run = scan_vectors(data, tmp_path / "run").out
    renamed = data.rename(tmp_path / "renamed")
    assert told(scan_vectors(renamed, tmp_path / "other").out) == told(run)
    before = (run / "_tasks/retrieval.json").stat().st_mtime_ns
    scan_vectors(renamed.rename(data), run)
    assert (run / "_tasks/retrieval.json").stat().st_mtime_ns == before


def test_overwrite_measures_anew_what_was_said_of_other_vectors(tmp_path):
    run = scan_vectors(embeddings(tmp_path / "one", lambda *_: None), tmp_path / "run").out
    scan_vectors(embeddings(tmp_path / "two", learnt), run, overwrite=True)
    assert told(run).learnt and RunFolder(run).record["retrieval"]["skipped"] is None


@pytest.mark.parametrize("told", [None, 3, {"pairs": "many"}, {"pairs": 2, "captions": {}, "pictures": []}])
def test_a_run_that_says_something_else_there_is_summed_up_all_the_same(tmp_path, told):
    run = scan_vectors(embeddings(tmp_path / "data", learnt), tmp_path / "run").out
    RunFolder(run).update(retrieval=None)
    RunFolder(run).update(retrieval=told)
    assert not any("retrieval among" in line for line in summary(run))
