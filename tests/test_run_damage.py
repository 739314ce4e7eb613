"""Files of a run that are lost, cut or changed: noticed before anything is made of them, and made again."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from run_helpers import checkpoint, contents, scan_pictures, scan_vectors, tars  # noqa: F401

import clipscan
from clipscan import pipeline
from clipscan.errors import ClipscanError
from clipscan.report.keep_outputs import put_page
from clipscan.report.page import write_page
from clipscan.run import Compute, Ranking, Run, run_folder, status
from clipscan.run.calibrating import calibrate
from clipscan.run.outputs import Damaged
from clipscan.run.progress import Silent
from clipscan.run.status import verify

SCORED = Ranking(k=4, reference="30x2", fraction=0.05)
SHARD = "00001"
EMBEDDED = [
    f"embeddings/img_emb/img_emb_{SHARD}.npy", f"embeddings/text_emb/text_emb_{SHARD}.npy",
    f"embeddings/metadata/metadata_{SHARD}.parquet", f"embeddings/bad/bad_{SHARD}.parquet",
    f"embeddings/listing/listing_{SHARD}.parquet", "bad.parquet", "listing.parquet",
]  # fmt: skip
LATER = [
    f"neighbors/distance_{SHARD}.npy", f"neighbors/index_{SHARD}.npy", f"scores/scores_{SHARD}.parquet",
    "suspects.parquet", "groups.parquet", "drop.parquet", "keep.txt", "drop.txt", "report/index.html",
]  # fmt: skip
PARTITION = [
    f"partition/{name}" for name in
    ("partition.parquet", "partition.json", "risky.parquet", "safe.parquet", "risky.txt", "safe.txt")
]  # fmt: skip


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """As a failing disk does: same size, a few other bytes in the middle."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4] = bytes(255 - byte for byte in data[middle : middle + 4])
    path.write_bytes(data)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    """Three shards of pictures and captions; a bad row in each, so that the others are copied."""
    rng = np.random.default_rng(0)
    data = tmp_path_factory.mktemp("data")
    for side in ("img", "text"):
        (data / f"{side}_emb").mkdir()
        for shard in range(3):
            rows = rng.standard_normal((40, 8)).astype(np.float32)
            rows[3:9] = rows[3]  # copies: a group
            rows[11, 0] = np.nan
            np.save(data / f"{side}_emb/{side}_emb_{shard}.npy", rows)
    return data


@pytest.fixture(scope="module")
def scanned(embeddings, tmp_path_factory):
    run = tmp_path_factory.mktemp("scanned") / "run"
    scan_vectors(embeddings, run, fraction=0.05)
    return run


@pytest.fixture
def run(scanned, tmp_path):
    """A copy, which this process has neither made nor looked through."""
    shutil.copytree(scanned, tmp_path / "run")
    put_page(Run(tmp_path / "run"))  # it names the folder
    return tmp_path / "run"


def score(run, **options):
    pipeline.score(Run(run), replace(SCORED, **options), Compute(threads=1), overwrite=True)


def results(run):
    """All but run.json and markers, which may tell of an attempt."""
    found = contents(run)
    return {name: data for name, data in found.items() if name != "run.json" and "_tasks" not in name}


@pytest.mark.parametrize("name", [*EMBEDDED, *LATER])
@pytest.mark.parametrize("damage", [lose, cut])
def test_what_is_lost_or_cut_is_made_again_by_the_same_scan(run, embeddings, name, damage):
    whole = contents(run)
    damage(run / name)
    done = scan_vectors(embeddings, run, fraction=0.05)
    assert contents(run) == whole and done.counts["kept"] + done.counts["dropped"] == done.counts["embedded"]


@pytest.mark.parametrize("name", [*EMBEDDED, *LATER])
def test_what_has_changed_is_named_by_verify_and_made_again_by_the_next_scan(run, embeddings, name):
    assert verify(run) == []
    whole = contents(run)
    flip(run / name)
    (damage,) = verify(run)
    assert damage.path == run / name and "has changed since it was written" in damage.words()
    scan_vectors(embeddings, run, fraction=0.05)
    assert contents(run) == whole and verify(run) == []


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("damage", [lose, cut])
def test_what_comes_after_the_vectors_is_made_again_by_score(run, name, damage):
    whole = contents(run)
    damage(run / name)
    score(run)
    assert contents(run) == whole


@pytest.mark.parametrize("name", EMBEDDED[:3])
@pytest.mark.parametrize("damage", [lose, cut, flip])
def test_nothing_is_scored_from_damaged_vectors_and_the_way_on_is_said(run, embeddings, name, damage):
    damage(run / name)
    with pytest.raises(
        Damaged, match=r"clipscan scan \(or embed\), called as before, makes it again"
    ) as refused:
        score(run, method="kdist")
    assert str(run / name) in str(refused.value)
    scan_vectors(embeddings, run, fraction=0.05, method="kdist", overwrite=True)
    assert verify(run) == []


@pytest.mark.parametrize("name", [*EMBEDDED[:3], LATER[0], LATER[1]])
def test_a_scan_that_meets_changed_files_mends_them_and_finds_what_a_fresh_one_finds(
    run, embeddings, tmp_path, name
):
    fresh = scan_vectors(embeddings, tmp_path / "fresh", fraction=0.05, method="dao")
    flip(run / name)
    notes = []

    class Heard(Silent):
        def note(self, text):
            notes.append(text)

    mended = scan_vectors(embeddings, run, fraction=0.05, method="dao", overwrite=True, progress=Heard())
    assert mended.table().equals(fresh.table())
    assert any(name in note and "made again" in note for note in notes)
    assert verify(run) == []


def decide(run, tmp_path):
    decisions = tmp_path / "mine.csv"
    table = pq.read_table(run / f"embeddings/metadata/metadata_{SHARD}.parquet").to_pylist()
    row = table[7]
    decisions.write_text(f"shard,key,decision\n{row['shard']},{row['key']},drop\n")
    export(run, decisions=decisions)
    return row


def export(run, **rule):
    return pipeline.export(Run(run), **rule)


@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("name", ["keep.txt", "drop.txt"])
def test_a_lost_list_follows_again_from_what_a_person_decided(run, embeddings, tmp_path, name, damage):
    row = decide(run, tmp_path)
    whole = contents(run)
    damage(run / name)
    done = scan_vectors(embeddings, run, fraction=0.05)
    assert contents(run) == whole and done.table("drop")["key"].to_pylist() == [row["key"]]


@pytest.mark.parametrize("damage", [lose, cut, flip])
def test_decisions_that_are_lost_are_not_replaced_by_others_and_the_way_on_is_said(
    run, embeddings, tmp_path, damage
):
    row = decide(run, tmp_path)
    damage(run / "drop.parquet")
    verify(run)
    with pytest.raises(
        clipscan.RunError, match=r"drop\.parquet.*decided.*clipscan export .* --decisions FILE"
    ):
        scan_vectors(embeddings, run, fraction=0.05)
    export(run, decisions=tmp_path / "mine.csv")
    assert scan_vectors(embeddings, run, fraction=0.05).table("drop")["key"].to_pylist() == [row["key"]]


@pytest.mark.parametrize("rule", [{"threshold": 0.5}, {"fraction": 0.1}, {"apart": True}])
def test_a_lost_drop_list_is_made_again_by_the_rule_that_was_asked(run, embeddings, rule):
    export(run, **rule)
    whole = contents(run)
    lose(run / "drop.parquet")
    scan_vectors(embeddings, run, fraction=0.05)
    assert contents(run) == whole


USES = {
    "drop.parquet": lambda run, to: pipeline.apply(Run(run), to),
    "bad.parquet": lambda run, to: write_page(run, None),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("damage", [lose, flip])
def test_nothing_is_derived_from_a_damaged_file(run, tmp_path, name, damage):
    damage(run / name)
    with pytest.raises(ClipscanError) as refused:
        USES[name](run, tmp_path / "to")
    assert name in str(refused.value) and "makes it again" in str(refused.value)
    assert not (tmp_path / "to").exists()


def test_a_drop_list_in_a_training_loop_is_looked_at_first(run):
    assert clipscan.DropList.load(run) is not None
    flip(run / "drop.parquet")
    with pytest.raises(clipscan.RunError, match="has changed since it was written"):
        clipscan.DropList.load(run)


@pytest.mark.parametrize("name", PARTITION)
@pytest.mark.parametrize("damage", [lose, flip])
def test_a_damaged_partition_is_named_and_made_again_by_partition(run, tmp_path, name, damage):
    pipeline.partition(Run(run), share=0.8)
    whole = results(run)
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    damage(moved / name)
    (found,) = verify(moved)
    assert found.path == moved / name and "clipscan partition makes it again" in found.words()
    if name == "partition/risky.parquet":
        with pytest.raises(Damaged, match="clipscan partition makes it again"):
            pipeline.apply(Run(moved), tmp_path / "to", drop=moved / name)
    pipeline.partition(Run(moved), share=0.8)
    assert verify(moved) == []
    found = results(moved)
    assert all(found[one] == whole[one] for one in PARTITION)


def test_a_damaged_calibration_decides_nothing(run, embeddings, tmp_path):
    one = Run(run)
    flat = np.random.default_rng(5).standard_normal((60, 8)).astype(np.float32)
    (tmp_path / "clean/img_emb").mkdir(parents=True)
    (tmp_path / "clean/text_emb").mkdir()
    np.save(tmp_path / "clean/img_emb/0.npy", flat)
    np.save(tmp_path / "clean/text_emb/0.npy", flat)
    pipeline.embed(tmp_path / "clean", out=tmp_path / "trusted")
    other = Run(tmp_path / "trusted")
    calibrate(one, other, 0.05)
    flip(run / "calibration.parquet")
    with pytest.raises(Damaged, match=r"calibration\.parquet has changed.*clipscan calibrate makes it again"):
        export(run, decisions=run / "calibration.parquet")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory, checkpoint):  # noqa: F811
    """A scan of pictures with a trusted model of other weights."""
    from safetensors.torch import load_file, save_file

    from clipscan.embed.model import MODEL_KEY

    at = tmp_path_factory.mktemp("pictured")
    other = {name: value * 1.5 for name, value in load_file(checkpoint).items()}
    save_file(other, at / "trusted.safetensors", {MODEL_KEY: "clipscan-conv-32"})
    data = tars(at / "tars", shards=2, per_shard=20)

    def scan(run, **options):
        return scan_pictures(data, run, checkpoint, trusted_pretrained=at / "trusted.safetensors", **options)

    scan(at / "run")
    return at / "run", scan


@pytest.mark.parametrize("damage", [lose, cut, flip])
@pytest.mark.parametrize("name", [EMBEDDED[0], EMBEDDED[2], f"trusted/trusted_{SHARD}.npy"])
def test_pictures_whose_vectors_are_damaged_are_embedded_again(pictured, tmp_path, name, damage):
    made, scan = pictured
    run = tmp_path / "run"
    shutil.copytree(made, run)
    whole = contents(run)
    damage(run / name)
    verify(run)
    scan(run)
    assert contents(run) == whole


def test_verify_on_the_command_line_names_the_files_and_exits_with_1(run):
    def command(*words):
        return subprocess.run(
            [sys.executable, "-P", "-m", "clipscan", "status", str(run), *words],
            capture_output=True,
            text=True,
        )

    assert command("--verify").returncode == 0
    flip(run / "keep.txt")
    cut(run / LATER[2])
    assert command().returncode == 0
    found = command("--verify")
    assert found.returncode == 1
    assert str(run / "keep.txt") in found.stdout and str(run / LATER[2]) in found.stdout


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
    from clipscan.run import outputs

    read = []
    digest = outputs.digest

    def counted(path):
        read.append(path.name)
        return digest(path)

    monkeypatch.setattr(outputs, "digest", counted)
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
    from clipscan.run.outputs import digest

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
