"""A scan, end to end: what lies in the run folder, of pictures and of precomputed vectors."""

import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_helpers import checkpoint  # noqa: F401
from scan_helpers import scan, tars

import clipscan
import clipscan.pipeline
from clipscan.run import status
from clipscan.run.selecting import rank

pytest.importorskip("torch", reason="needs clipscan[embed]")


def test_a_scan_writes_the_whole_run_folder_and_its_counts_add_up(tmp_path, checkpoint):
    done = scan(tars(tmp_path / "data"), tmp_path / "run", checkpoint, fraction=0.05)
    assert done.counts == {
        "listed": 240, "embedded": 240, "bad": 0, "suspects": 12, "groups": done.counts["groups"],
        "dropped": 12, "kept": 228,
    }  # fmt: skip
    for name in (
        "run.json",
        "bad.parquet",
        "suspects.parquet",
        "groups.parquet",
        "drop.parquet",
        "keep.txt",
        "drop.txt",
        "report/index.html",
    ):
        assert (done.out / name).exists(), name
    image = np.load(done.out / "embeddings/img_emb/img_emb_00002.npy")
    metadata = pq.read_table(done.out / "embeddings/metadata/metadata_00002.parquet")
    assert image.dtype == np.float16 and len(image) == metadata.num_rows == 60
    norm = np.linalg.norm(image.astype(np.float32), axis=1)
    assert np.abs(norm / metadata["image_norm"].to_numpy() - 1).max() < 1e-3, "raw vectors, norms recorded"

    suspects = done.table()
    assert suspects["rank"].to_pylist() == list(range(1, 13))
    assert (np.diff(suspects["score"].to_numpy()) <= 0).all()
    assert all(why.endswith(".") for why in suspects["why"].to_pylist())
    assert len(suspects["neighbors"][0]) == 8
    assert [s.done for s in status(done.out)] == [4, 4, 4, 1]


def test_run_scores_are_those_of_the_library_on_the_stored_vectors(tmp_path, checkpoint):
    done = scan(tars(tmp_path / "data"), tmp_path / "run", checkpoint)
    image, text = (
        np.concatenate([np.load(p) for p in sorted((done.out / f"embeddings/{side}_emb").glob("*.npy"))])
        for side in ("img", "text")
    )
    direct = clipscan.score(image, text=text, method=["dao", "cross"], k=4, reference="50x3")
    stored = [pq.read_table(p) for p in sorted((done.out / "scores").glob("*"))]
    for name in ("dao", "cross"):
        assert (np.concatenate([t[name].to_numpy() for t in stored]) == direct[name]).all()


def test_precomputed_embeddings_are_scanned_in_place_and_their_broken_rows_are_bad(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((300, 16)).astype(np.float16)
    image[7], image[100:130] = np.nan, image[100]
    np.save(tmp_path / "a.npy", image)
    done = clipscan.scan(tmp_path / "a.npy", out=tmp_path / "run", k=4, reference="50x2")
    assert done.counts["bad"] == 1 and "not finite" in done.table("bad")["reason"][0].as_py()
    group = done.table("groups").to_pylist()[0]
    assert group["size"] == 30 and len(group["members"]) == 30
    everyone = clipscan.scan(
        tmp_path / "a.npy", out=tmp_path / "all", k=4, reference="50x2", fraction=1.0
    ).table()
    copies = [row for row in everyone.to_pylist() if row["group"] == 0]
    assert len(copies) == 30 and all("One of 30 near-copies." in row["why"] for row in copies)
    np.save(tmp_path / "b.npy", image[8:])
    done = clipscan.scan(tmp_path / "b.npy", out=tmp_path / "b", k=4, reference="50x2", graph="no")
    assert not (done.out / "embeddings/img_emb").exists(), "vectors stay where they are"
    assert done.table("groups")["size"].to_pylist() == [30], "exact copies are found without a graph"
    assert "not asked for" in json.loads((done.out / "run.json").read_text())["graph"]["skipped"]


def scores_through(door, image, text, shards):
    """All columns, stacked, of a scan of these vectors in so many files."""
    for side, rows in (("img", image), ("text", text)):
        (door / f"{side}_emb").mkdir(parents=True)
        for number, part in enumerate(np.array_split(rows, shards)):
            np.save(door / f"{side}_emb/{side}_emb_{number}.npy", part)
    done = clipscan.scan(door, out=door.with_suffix(".run"), k=4, reference="50x3", graph="no")
    tables = [pq.read_table(path) for path in sorted((done.out / "scores").glob("*"))]
    columns = pa.concat_tables(tables).drop_columns(["shard", "key"])
    return {name: columns[name].to_numpy() for name in columns.column_names}


def test_names_do_not_decide_about_the_same_vectors(tmp_path):
    rng = np.random.default_rng(5)
    image, text = (rng.normal(size=(300, 8)).astype(np.float16) for _ in range(2))
    image[100:140] = image[:40]  # one picture under two captions
    one, other = (scores_through(tmp_path / f"{n}", image, text, n) for n in (1, 3))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    order = rng.permutation(300)
    turned = scores_through(tmp_path / "turned", image[order], text[order], 1)
    assert all((one[name][order] == turned[name]).all() for name in one if name != "consensus")


def test_embedding_an_image_folder_gives_the_vectors_of_the_tars(tmp_path, checkpoint):
    data = tars(tmp_path / "data", shards=1)
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(data / "00000.tar") as tar:
        for member in tar:
            (folder / member.name).write_bytes(tar.extractfile(member).read())
    a, b = scan(data, tmp_path / "a", checkpoint), scan(folder, tmp_path / "b", checkpoint)
    for side in ("img", "text"):
        name = f"embeddings/{side}_emb/{side}_emb_00000.npy"
        assert (a.out / name).read_bytes() == (b.out / name).read_bytes()


def test_ranks_share_places_among_equals():
    assert rank(np.array([3.0, 9.0, 3.0, np.nan, 1.0])).tolist() == [2, 1, 2, 5, 4]
