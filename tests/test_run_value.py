"""A run as one value: read once, read again where a task wrote anew, never two at work in it."""

import numpy as np
import pytest
from run_helpers import scan_vectors

from clipscan import pipeline
from clipscan.errors import RunError
from clipscan.run import Compute, Ranking, Run


@pytest.fixture
def run(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32))
    return Run(scan_vectors(tmp_path / "a.npy", tmp_path / "run").out)


def test_what_a_run_holds_is_read_once(run):
    assert run.dataset is run.dataset and run.scores is run.scores and run.graph is run.graph
    assert run.vectors is run.vectors is run.mapped
    assert run.vectors.image.n == run.scores.num_rows == run.names("key").num_rows == 60


def test_what_was_read_before_a_stage_wrote_anew_is_forgotten(run):
    before, dataset = run.scores, run.dataset
    pipeline.score(run, Ranking("kdist", 3, "30x2"), Compute(threads=1), overwrite=True)
    assert run.graph.k == 3 and not run.scores.equals(before)
    assert run.scores.equals(Run(run.path).scores)
    assert run.dataset is dataset


@pytest.mark.parametrize("verb", [pipeline.report, pipeline.score, pipeline.knn, pipeline.partition])
def test_nobody_works_in_a_run_that_another_holds(run, verb):
    with run.lock(), pytest.raises(RunError, match="another clipscan works in"):
        verb(Run(run.path))


def test_a_misspelt_run_is_refused_and_not_made(tmp_path):
    with pytest.raises(RunError, match=r"holds no run\.json"):
        pipeline.export(Run(tmp_path / "rum"), apart=True)
    assert not (tmp_path / "rum").exists()
