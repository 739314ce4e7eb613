"""Markers of finished tasks: what they are worth, when they are read, and other definitions."""

import json

import numpy as np
import pytest
from damage_helpers import EMBEDDED, LATER, SHARD, embeddings, flip, lose, run, scanned  # noqa: F401
from run_helpers import contents, scan_vectors

import clipscan
from clipscan import pipeline
from clipscan.run import Run, run_folder, status
from clipscan.run.markers import Damaged
from clipscan.run.status import verify


def test_status_counts_tasks_whose_files_are_there(run):
    before = {stage.stage: stage.done for stage in status(run)}
    lose(run / LATER[2])
    lose(run / "keep.txt")
    after = {stage.stage: stage.done for stage in status(run)}
    assert (before["score"], after["score"]) == (3, 2) and (before["select"], after["select"]) == (1, 0)


def test_a_run_that_can_only_be_read_still_says_what_is_damaged(run, monkeypatch):
    flip(run / LATER[2])

    def refuse(draft, target):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(clipscan.data.atomic, "rename", refuse)
    with pytest.raises(Damaged, match="has changed since it was written"):
        pipeline.explain(Run(run), "img_emb_0/3")


def test_finished_tasks_read_no_digests_again(run, embeddings, monkeypatch):
    from clipscan.run import markers

    read = []
    digest = markers.digest

    def counted(path):
        read.append(path.name)
        return digest(path)

    monkeypatch.setattr(markers, "digest", counted)
    scan_vectors(embeddings, run, fraction=0.05)
    assert not [name for name in read if name.endswith(".npy")], "nothing was derived from the vectors"
    verify(run)
    once = len(read)
    verify(run)
    assert len(read) == once, "a file that this process has looked through is not read again"


@pytest.mark.parametrize("stage", ["embed", "graph", "score", "select"])
def test_results_of_another_definition_are_refused_and_overwrite_makes_them_anew(
    run, embeddings, monkeypatch, stage
):
    record = json.loads((run / "run.json").read_text())
    record["made_by"][stage] = "0.0.1"
    (run / "run.json").write_text(json.dumps(record))
    monkeypatch.setitem(run_folder.DEFINITIONS, stage, run_folder.DEFINITIONS[stage] + 1)
    with pytest.raises(clipscan.RunError, match=f"results of clipscan 0.0.1, whose {stage} stage"):
        scan_vectors(embeddings, run, fraction=0.05)
    before = {path: path.stat().st_mtime_ns for path in (run / "scores").iterdir()}
    scan_vectors(embeddings, run, fraction=0.05, overwrite=True)
    after = {path: path.stat().st_mtime_ns for path in (run / "scores").iterdir()}
    redone = stage != "select"
    assert all((after[path] != before[path]) == redone for path in before)
    scan_vectors(embeddings, run, fraction=0.05)


def test_vectors_that_were_embedded_to_other_bytes_are_scored_anew(run, embeddings):
    """On another device, or by another build: what was made of the old ones does not stay."""
    name = f"scores/scores_{SHARD}.parquet"
    path = run / EMBEDDED[0]
    rows = np.load(path)
    np.save(path, rows[::-1])
    marker = run / f"_tasks/embed-{SHARD}.json"
    known = json.loads(marker.read_text())
    from clipscan.run.markers import digest

    known["files"][EMBEDDED[0]] = [path.stat().st_size, digest(path)]
    marker.write_text(json.dumps(known))
    before = (run / name).read_bytes()
    scan_vectors(embeddings, run, fraction=0.05)
    assert (run / name).read_bytes() != before and verify(run) == []


@pytest.mark.parametrize("said", ["", "[]", '{"files": [1]}', '{"files": {"drop.parquet": 5}}'])
def test_a_marker_that_says_nothing_is_a_task_to_do_again(run, embeddings, said):
    whole = contents(run)
    for task in (f"embed-{SHARD}", f"score-{SHARD}", "select-00000", "page"):
        (run / f"_tasks/{task}.json").write_text(said)
    verify(run)
    scan_vectors(embeddings, run, fraction=0.05)
    assert contents(run) == whole
