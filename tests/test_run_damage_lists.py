"""Damaged lists, decisions, partitions and calibrations: followed again, or the way on is said."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from damage_helpers import SHARD, cut, embeddings, flip, lose, run, scanned  # noqa: F401
from run_helpers import contents, scan_vectors

import clipscan
from clipscan import pipeline
from clipscan.errors import ClipscanError
from clipscan.report.page import write_page
from clipscan.run import Run
from clipscan.run.calibrating import calibrate
from clipscan.run.markers import Damaged
from clipscan.run.status import verify

PARTITION = [
    f"partition/{name}" for name in
    ("partition.parquet", "partition.json", "risky.parquet", "safe.parquet", "risky.txt", "safe.txt")
]  # fmt: skip


def results(run):
    """All but run.json and markers, which may tell of an attempt."""
    found = contents(run)
    return {name: data for name, data in found.items() if name != "run.json" and "_tasks" not in name}


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
