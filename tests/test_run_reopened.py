"""Commands on a run whose dataset moved or changed, or whose record is damaged, edited or lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from changed_helpers import SMALL, checkpoint, files, put_back, reverse_rows, scan, scanned, tars  # noqa: F401
from data_helpers import put, tree
from typer.testing import CliRunner

import clipscan
from clipscan import pipeline
from clipscan.cli import app
from clipscan.run import Run

pytest.importorskip("torch", reason="needs clipscan[embed]")

COMMANDS = [
    ["report"], ["score", "--overwrite", "--reference", "5x2"], ["knn", "--k", "3", "--overwrite"],
    ["export", "--fraction", "0.1"], ["partition"], ["explain", "000000004"], ["invert", "0"],
    ["apply", "--to", "TARGET"], ["calibrate", "RUN"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_refuses_reversed_rows_and_changes_nothing(command, scanned, tmp_path: Path) -> None:
    folder, run = scanned("clip-retrieval")
    with put_back(folder):
        reverse_rows(folder)
        before = tree(run)
        words = {"TARGET": str(tmp_path / "out"), "RUN": str(run)}
        arguments = [command[0], str(run), *(words.get(word, word) for word in command[1:])]
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, clipscan.RunError), result.output
        assert "6 changed (img_emb/img_emb_0.npy, " in str(result.exception)
        assert tree(run) | {".lock": b""} == before | {".lock": b""}
        assert not (tmp_path / "out").exists()


def test_a_run_of_a_relative_path_is_of_that_dataset_from_any_folder(
    checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    for place, numbers in (("a", [0, 1, 2]), ("b", [3, 4, 5])):
        tars(tmp_path / place / "set", numbers)
    monkeypatch.chdir(tmp_path / "a")
    for source in ("set", "set/{00000..00002}.tar", "set/00000.tar::set/00002.tar"):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        clipscan.scan(source, out="../run", pretrained=checkpoint, **SMALL)
        assert json.loads(Path("../run/run.json").read_text())["dataset"]["source"] == source
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(tmp_path / "b")
            counts = pipeline.apply(Run("../run"), tmp_path / "out")
            dropped = pq.read_table(tmp_path / "run/drop.parquet").num_rows
            assert counts.dropped == dropped and counts.kept + dropped in (20, 30)
            written = {path.name for path in files(tmp_path / "out")}
            assert written <= {"00000.tar", "00001.tar", "00002.tar"}
        shutil.rmtree(tmp_path / "out")


def test_a_dataset_that_moved_is_told_and_scanned_from_there_without_embedding(
    checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    tars(tmp_path / "old/set", [0, 1, 2])
    scan(tmp_path / "old/set", tmp_path / "old/run", checkpoint)
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(clipscan.RunError, match="If it has moved, scan it where it lies now"):
        pipeline.apply(Run(tmp_path / "new/run"), tmp_path / "out")
    from clipscan.run import embedding

    monkeypatch.setattr(embedding, "_write", None)
    scan(tmp_path / "new/set", tmp_path / "new/run", checkpoint)
    assert pipeline.apply(Run(tmp_path / "new/run"), tmp_path / "out").kept == 24


def test_a_run_does_not_lie_in_its_dataset_nor_the_dataset_in_what_the_run_writes(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = tars(tmp_path / "set", [0])
    (tmp_path / "link").symlink_to(data)
    for out in (data, data / "run", tmp_path / "link/deep/run"):
        with pytest.raises(clipscan.RunError, match="lies inside the dataset"):
            scan(data, out, checkpoint)
    assert list(tree(data)) == ["00000.tar"]
    np.save(put(tmp_path / "run/embeddings/img_emb/img_emb_0.npy", b""), np.ones((9, 4), np.float32))
    for source in ("run/embeddings", "run/embeddings/img_emb/img_emb_0.npy"):
        with pytest.raises(clipscan.RunError, match="would write over"):
            clipscan.scan(tmp_path / source, out=tmp_path / "run", **SMALL)


def test_a_run_that_says_nothing_of_its_files_is_refused(scanned, tmp_path: Path) -> None:
    _, run = scanned("tar")
    shutil.copytree(run, tmp_path / "old")
    record = json.loads((tmp_path / "old/run.json").read_text())
    record["opened"] = {"image_key": None, "text_key": None}
    (tmp_path / "old/run.json").write_text(json.dumps(record))
    with pytest.raises(clipscan.RunError, match="scan again with --overwrite"):
        _ = Run(tmp_path / "old").dataset


def test_a_run_whose_listing_is_damaged_is_refused_until_it_is_made_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    data = tars(tmp_path / "set", [0, 1])
    scan(data, tmp_path / "run", checkpoint)
    for path in [tmp_path / "run/listing.parquet", *(tmp_path / "run/embeddings/listing").iterdir()]:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(clipscan.RunError):
        pipeline.apply(Run(tmp_path / "run"), tmp_path / "out")
    scan(data, tmp_path / "run", checkpoint)
    assert pipeline.apply(Run(tmp_path / "run"), tmp_path / "out").kept == 16


def test_another_column_or_suffix_is_another_setting(scanned, tmp_path: Path) -> None:
    folder, run = scanned("clip-retrieval")
    with pytest.raises(clipscan.RunError, match="image_key"):
        clipscan.scan(folder, out=run, fraction=0.2, image_key="other", **SMALL)


EDITED = {
    "a source that is a number": lambda record: record["opened"].update(source=5),
    "opened that is a list": lambda record: record.update(opened=[1]),
    "an option of another version": lambda record: record["opened"].update(frames=3),
    "no dataset": lambda record: record.pop("dataset"),
    "a dataset in words": lambda record: record.update(dataset="x"),
    "shards that are a number": lambda record: record["dataset"].update(shards=3),
    "asked in words": lambda record: record.update(asked="x"),
    "asked of a stage in words": lambda record: record["asked"].update(score="x"),
}


@pytest.mark.parametrize("edit", EDITED.values(), ids=EDITED)
def test_an_edited_run_json_is_refused_in_words_and_a_scan_makes_it_again(
    edit, scanned, tmp_path: Path
) -> None:
    folder, made = scanned("vector parquet")
    run = tmp_path / "run"
    shutil.copytree(made, run)
    record = json.loads((run / "run.json").read_text())
    edit(record)
    (run / "run.json").write_text(json.dumps(record))
    for command in (pipeline.explain, pipeline.apply):
        with pytest.raises(clipscan.RunError, match=r"remove it|made by another clipscan"):
            command(Run(run), "000000004" if command is pipeline.explain else tmp_path / "out")
    (run / "run.json").unlink()
    scan(folder, run, Path())
    assert pipeline.apply(Run(run), tmp_path / "out")[:3] == (8, 2, 0)


def test_a_ranking_by_a_score_that_was_not_made_is_refused_in_words(scanned, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(scanned("vector parquet")[1], run)
    record = json.loads((run / "run.json").read_text())
    record["score"]["method"] = "guess"
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(clipscan.RunError, match="no such score was made"):
        pipeline.explain(Run(run), "000000004")
