"""Groups of a run: suspects whose captions say the same, and near-copies; verdicts; what is dropped."""

import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import put

import clipscan
from clipscan.report.convicted import convicted_of
from clipscan.report.drop_schema import pairs_of
from clipscan.report.page import write_page
from clipscan.report.summary import summary
from clipscan.run import group_verdicts
from clipscan.scores.groups import alike, typical_distance

N, D, POISON, COPIES = 3000, 16, 45, 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A scan of vectors: 6 kinds of pairs; 45 poisoned ones stand apart under captions of their own; one
    picture lies 30 times under captions of all kinds."""
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 6, N)
    kind[:POISON] = 6
    centre = 3 * draw.normal(size=(7, D))
    image = centre[kind] + draw.normal(size=(N, D))
    text = centre[kind] + 0.1 * draw.normal(size=(7, 5, D))[kind, draw.integers(0, 5, N)]
    image[-COPIES:] = image[-1] + 1e-3 * draw.normal(size=(COPIES, D))
    captions = [f"a picture of a banana, {i % 5}" if i < POISON else f"thing {kind[i]}" for i in range(N)]
    folder = tmp_path_factory.mktemp("groups")
    for name, array in (("img_emb", image), ("text_emb", text)):
        (folder / "data" / name).mkdir(parents=True)
        np.save(folder / "data" / name / f"{name}_0.npy", array.astype(np.float16))
    table = pa.table({"image_path": [f"{i}.jpg" for i in range(N)], "caption": captions})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    put(folder / "data" / "metadata" / "metadata_0.parquet", sink.getvalue().to_pybytes())
    return clipscan.scan(folder / "data", out=folder / "run")


def test_what_stands_apart_is_counted_and_dropped(run):
    assert 0.8 * POISON <= run.estimate.number <= 1.2 * POISON
    dropped = run.table("drop")
    assert run.counts["dropped"] == dropped.num_rows == run.estimate.number
    assert "that are convicted" in dropped["reason"][0].as_py()
    assert run.counts["suspects"] >= run.estimate.most


def test_planted_suspects_are_the_first_group_and_trigger_like(run):
    first = run.table("groups").to_pylist()[0]
    assert (first["group"], first["kind"]) == (0, "suspects") and "banana" in first["top_caption"]
    banana = [one["caption"].startswith("a picture of a banana") for one in first["members"]]
    assert sum(banana) >= 0.8 * POISON and np.mean(banana) >= 0.9
    assert first["verdict"] == group_verdicts.TRIGGER
    suspects = run.table()
    banana = [caption.startswith("a picture of a banana") for caption in suspects["caption"].to_pylist()]
    assert {group for group, is_one in zip(suspects["alike"].to_pylist(), banana, strict=True) if is_one} == {
        0
    }


def test_one_picture_under_unrelated_captions_is_a_placeholder(run):
    copies = [row for row in run.table("groups").to_pylist() if row["kind"] == "copies"]
    assert copies[0]["size"] == COPIES and copies[0]["verdict"] == group_verdicts.PLACEHOLDER
    assert len(copies) == run.counts["groups"]


def test_page_summary_groups_and_drop_list_tell_of_the_same_pairs(run):
    groups = run.table("groups").to_pylist()
    convicted = convicted_of(run.out)
    assert [one.group for one in convicted] == [g["group"] for g in groups if g["population"] >= 0]
    assert convicted and sum(one.size for one in convicted) == run.counts["dropped"]
    members = {(m["shard"], m["key"]) for one in convicted for m in groups[one.group]["members"]}
    assert members == set(pairs_of(run.table("drop")))
    page, told = " ".join(run.page.read_text().split()), summary(run.out)
    assert f"<b>{run.estimate.number} pairs are convicted</b>, in {len(convicted)} population" in page
    assert any(f"{run.estimate.number} pairs are convicted, in {len(convicted)} pop" in line for line in told)
    for one in convicted:
        assert one.figures[1:] in page and f"convicted: {one.words()}" in told
    assert group_verdicts.TRIGGER in page and group_verdicts.PLACEHOLDER in page


def test_a_run_of_an_older_clipscan_is_read_as_it_was_made(run, tmp_path):
    shutil.copytree(run.out, old := tmp_path / "run", ignore=shutil.ignore_patterns("_tasks"))
    record = json.loads((old / "run.json").read_text())
    del record["score"]["populations"]
    (old / "run.json").write_text(json.dumps(record))
    groups = pq.read_table(old / "groups.parquet").drop_columns(["population"])
    pq.write_table(groups, old / "groups.parquet")
    assert convicted_of(old) is None
    page = " ".join(write_page(old, None).read_text().split())
    assert f"About {run.estimate.number} samples stand apart</b> at the suspicious end" in page
    assert "Convicted populations" not in page and "Suspects that say the same" in page


def test_a_run_by_another_score_convicts_nobody(run, tmp_path):
    other = clipscan.scan(run.out.parent / "data", out=tmp_path / "run", method="lof")
    assert convicted_of(other.out) is None and "pairs are convicted" not in other.page.read_text()
    assert set(other.table("groups")["population"].to_pylist()) == {-1}


@pytest.mark.parametrize(
    ("group", "verdict"),
    [
        (group_verdicts.GroupFigures(90, 0.9, 0.1, 3.0, 1.0, 0.9), group_verdicts.TRIGGER),
        (group_verdicts.GroupFigures(90, 0.9, 0.1, 1.0, 3.0, 0.9), group_verdicts.UNLEARNT),
        (group_verdicts.GroupFigures(90, 1.0, 1.0, 1.0, 3.0, 0.9), group_verdicts.BOILERPLATE),
        (group_verdicts.GroupFigures(90, 0.9, 0.1, 1.0, math.nan, 0.9), group_verdicts.ODD),
        (group_verdicts.GroupFigures(90, 0.9, 0.1, 3.0, 1.0, 0.1), group_verdicts.ODD),
    ],
)
def test_verdicts_on_suspects(group, verdict):
    assert group_verdicts.verdict_on_suspects(group) == verdict


@pytest.mark.parametrize(
    ("agreement", "commonest", "verdict"),
    [
        (0.95, 0.1, group_verdicts.DUPLICATE),
        (0.1, 0.9, group_verdicts.DUPLICATE),
        (0.1, 0.1, group_verdicts.PLACEHOLDER),
        (math.nan, 1.0, group_verdicts.COPIES),
    ],
)
def test_verdicts_on_copies(agreement, commonest, verdict):
    assert group_verdicts.verdict_on_copies(group_verdicts.GroupFigures(9, agreement, commonest)) == verdict


def test_captions_that_say_the_same_are_one_group_whatever_their_length():
    draw = np.random.default_rng(1)
    centre = draw.normal(size=(30, 24))
    captions = np.repeat(centre, 3, axis=0) + 0.05 * draw.normal(size=(90, 24))
    captions *= draw.uniform(0.5, 2, (90, 1))
    groups = alike(captions.astype(np.float32), typical_distance(draw.permutation(captions)))
    assert groups.size.tolist() == [3] * 30
    assert (groups.label.reshape(30, 3) == groups.label[::3, None]).all()


def test_equal_captions_are_one_group_and_strangers_none():
    assert alike(np.ones((4, 3), np.float32), 1.0).size.tolist() == [4]
    strangers = np.eye(6, dtype=np.float32)
    assert alike(strangers, typical_distance(strangers)).size.tolist() == []
