"""A scan killed at every rename, and at every removal, goes on to the same bytes."""

import shutil

import numpy as np
import pytest
from run_helpers import checkpoint, contents, scan_pictures, scan_vectors, tars  # noqa: F401

import clipscan
from clipscan.data import atomic
from clipscan.run import Run


def snapshots(run, to, monkeypatch, work):
    """Do the work, and keep the run folder as a kill would leave it at every rename: before it, drafts and
    all. The run itself and its snapshots lie under one name in turn, as a run may know its own place."""
    rename, taken = atomic.rename, []

    def kept(draft, target):
        if target.is_relative_to(run):
            at = to / f"{len(taken):03d}"
            shutil.copytree(run, at)
            taken.append((at, target.relative_to(run).as_posix()))
        rename(draft, target)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "rename", kept)
        work()
    return taken


def resumed_from_each(run, to, monkeypatch, work):
    """Every snapshot's run goes on to what the uninterrupted one left."""
    taken = snapshots(run, to, monkeypatch, work)
    whole = contents(run)
    for at, target in taken:
        shutil.rmtree(run)
        at.rename(run)
        work()
        found = contents(run)
        assert found.keys() == whole.keys(), f"killed before {target} was renamed"
        different = [name for name in whole if found[name] != whole[name]]
        assert not different, f"killed before {target} was renamed"
    return [target for _, target in taken]


def test_a_scan_of_embeddings_killed_at_any_rename_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    for side in ("img", "text"):
        (data / f"{side}_emb").mkdir(parents=True)
        for shard in range(3):
            rows = rng.standard_normal((40, 8)).astype(np.float32)
            rows[3:9] = rows[3]  # copies: a group
            rows[11, 0] = np.nan if shard == 1 else 0  # bad: the rest of this shard is copied
            np.save(data / f"{side}_emb/{side}_emb_{shard}.npy", rows)
    renamed = resumed_from_each(
        tmp_path / "run", tmp_path / "kept", monkeypatch, lambda: scan_vectors(data, tmp_path / "run")
    )
    assert {"drop.parquet", "run.json", "report/index.html", "scores/scores_00002.parquet"} <= set(renamed)
    assert len(renamed) > 40


def test_a_scan_of_pictures_killed_at_any_rename_goes_on_to_the_same_bytes(
    tmp_path,
    monkeypatch,
    checkpoint,
):
    data = tars(tmp_path / "data", shards=2, per_shard=20)
    renamed = resumed_from_each(
        tmp_path / "run",
        tmp_path / "kept",
        monkeypatch,
        lambda: scan_pictures(data, tmp_path / "run", checkpoint),
    )
    assert {"embeddings/img_emb/img_emb_00001.npy", "bad.parquet", "suspects.parquet"} <= set(renamed)
    assert "embeddings/untrained/untrained_00001.npy" in renamed


@pytest.fixture
def scanned(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32))
    scan_vectors(tmp_path / "a.npy", tmp_path / "run")
    return tmp_path / "run"


def export(run, **rule):
    clipscan.pipeline.export(Run(run), **rule)


def test_a_list_being_exported_is_the_old_one_or_the_new_one_after_a_kill_and_never_clipscans_own(
    scanned, tmp_path, monkeypatch
):
    first = tmp_path / "first.csv"
    first.write_text("key,decision\n000000007,drop\n")
    second = tmp_path / "second.csv"
    second.write_text("key,decision\n000000021,drop\n000000022,drop\n")
    export(scanned, decisions=first)
    taken = snapshots(scanned, tmp_path / "kept", monkeypatch, lambda: export(scanned, decisions=second))
    decided = {frozenset({"000000007"}), frozenset({"000000021", "000000022"})}
    seen = set()
    for at, target in taken:
        shutil.rmtree(scanned)
        at.rename(scanned)
        done = scan_vectors(tmp_path / "a.npy", scanned)
        keys = frozenset(done.table("drop")["key"].to_pylist())
        assert keys in decided, f"killed before {target} was renamed"
        listed = {line.split("\t")[1] for line in (scanned / "drop.txt").read_text().splitlines()}
        assert listed == keys and done.counts["dropped"] == len(keys)
        kept = {line.split("\t")[1] for line in (scanned / "keep.txt").read_text().splitlines()}
        assert not kept & keys and len(kept) == 60 - len(keys) == done.counts["kept"]
        seen.add(keys)
    assert seen == decided


@pytest.mark.parametrize("broken", ["gone", "{", "[1]", ""])
def test_a_run_whose_run_json_is_broken_goes_on_once_it_is_removed_as_advised(scanned, tmp_path, broken):
    whole = contents(scanned)
    if broken != "gone":
        (scanned / "run.json").write_text(broken)
        with pytest.raises(clipscan.RunError, match=r"run\.json.*remove it") as refused:
            scan_vectors(tmp_path / "a.npy", scanned)
        assert "nothing that is finished is done twice" in str(refused.value)
    (scanned / "run.json").unlink()
    done = scan_vectors(tmp_path / "a.npy", scanned)
    assert contents(scanned) == whole and done.counts["kept"] + done.counts["dropped"] == 60


def test_without_its_run_json_a_run_is_not_mixed_with_other_settings(scanned, tmp_path):
    (scanned / "run.json").unlink()
    with pytest.raises(clipscan.RunError, match=r"run\.json is gone"):
        clipscan.scan(tmp_path / "a.npy", out=scanned, k=5, reference="30x2")


def test_a_broken_marker_is_a_task_to_be_done_again(scanned, tmp_path):
    whole = contents(scanned)
    for marker in (scanned / "_tasks").iterdir():
        marker.write_text("{")
    scan_vectors(tmp_path / "a.npy", scanned)
    assert contents(scanned) == whole
