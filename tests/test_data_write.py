"""A dataset written without some samples is the same dataset without them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_helpers import JPEG, good, make_tar, put, read_all, ten_samples, tree
from layouts import (
    ALL,
    image_vectors,
    safetensors,
    sample_members,
    text_vectors,
    write_clip_retrieval,
    write_csv,
    write_datacomp,
    write_files,
    write_hf_parquet,
    write_metadata_csv,
    write_tar,
    write_tar_gz,
)

from clipscan.data import Counts, Dataset, open_dataset, write_without
from clipscan.data.array_files import array_shape
from clipscan.errors import DataError

GONE = {1, 4, 9}


def doomed(dataset: Dataset) -> set[tuple[str, str]]:
    keys = {ten_samples()[i].key.rsplit("/", 1)[-1] for i in GONE}
    return {(s.shard, s.key) for s in read_all(dataset) if s.key.rsplit("/", 1)[-1] in keys}


@pytest.mark.parametrize("layout", ALL)
@pytest.mark.parametrize("rows_per_shard", [10_000, 3])
def test_written_without_some_the_others_are_the_same(
    layout: str, rows_per_shard: int, tmp_path: Path
) -> None:
    dataset = open_dataset(ALL[layout][0](ten_samples(), tmp_path / "set"), rows_per_shard=rows_per_shard)
    before = good(dataset)
    assert write_without(dataset, doomed(dataset), tmp_path / "out") == Counts(kept=7, dropped=3, bad=0)
    after = open_dataset(tmp_path / "out")
    assert after.format == dataset.format
    assert good(after) == [sample for i, sample in enumerate(before) if i not in GONE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


@pytest.mark.parametrize("layout", ALL)
def test_written_without_none_nothing_is_lost(layout: str, tmp_path: Path) -> None:
    dataset = open_dataset(ALL[layout][0](ten_samples(), tmp_path / "set"))
    assert write_without(dataset, set(), tmp_path / "out").kept == 10
    assert good(open_dataset(tmp_path / "out")) == good(dataset)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_written_without_none_is_the_same_file(format: int, tmp_path: Path) -> None:
    key = "f" * 60 + "/" + "g" * 60
    members = [("README", b"1"), *(m for s in ten_samples() for m in sample_members(s)), (f"{key}.jpg", b"1")]
    tar = make_tar(tmp_path / "00000.tar", [*members, (f"{key}.txt", b"x")], format=format)
    write_without(open_dataset(tar), set(), tmp_path / "out")
    assert (tmp_path / "out" / "00000.tar").read_bytes() == tar.read_bytes()


def test_a_tar_keeps_the_headers_of_what_stays(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))
    write_without(dataset, doomed(dataset), tmp_path / "out")
    kept = [s for i, s in enumerate(ten_samples()) if i not in GONE]
    expected = write_tar(kept, tmp_path / "expected").read_bytes()
    assert (tmp_path / "out" / "00000.tar").read_bytes() == expected


def test_a_packed_tar_is_written_packed_and_without_a_clock(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar_gz(ten_samples(), tmp_path / "set"))
    for name in ("a", "b"):
        write_without(dataset, doomed(dataset), tmp_path / name)
    first, second = (tree(tmp_path / name)["00000.tar.gz"] for name in ("a", "b"))
    assert first == second
    assert first[:2] == b"\x1f\x8b"


def test_a_folder_keeps_its_bytes(tmp_path: Path) -> None:
    source = write_files(ten_samples(), tmp_path / "set")
    dataset = open_dataset(source)
    write_without(dataset, doomed(dataset), tmp_path / "out")
    gone = {ten_samples()[i].key for i in GONE}
    assert tree(tmp_path / "out") == {
        name: data for name, data in tree(source).items() if name.rsplit(".", 1)[0] not in gone
    }


@pytest.mark.parametrize(("write", "table"), [(write_csv, "train.csv"), (write_metadata_csv, "metadata.csv")])
def test_lines_of_a_table_are_kept_as_they_were(write, table: str, tmp_path: Path) -> None:
    write(ten_samples(), tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    write_without(dataset, doomed(dataset), tmp_path / "out")
    before, after = (tree(tmp_path / name)[table] for name in ("set", "out"))
    assert after in before or all(line in before.splitlines() for line in after.splitlines())
    assert len(after) < len(before)


def test_parquet_keeps_schema_and_compression(tmp_path: Path) -> None:
    dataset = open_dataset(write_hf_parquet(ten_samples(), tmp_path / "set"))
    write_without(dataset, doomed(dataset), tmp_path / "out")
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
        before, after = (pq.ParquetFile(tmp_path / folder / name) for folder in ("set", "out"))
        assert before.schema_arrow.equals(after.schema_arrow, check_metadata=True)
        codecs = [f.metadata.row_group(0).column(0).compression for f in (before, after)]
        assert codecs[0] == codecs[1]


@pytest.mark.parametrize("write", [write_clip_retrieval, write_datacomp])
def test_arrays_and_metadata_lose_the_same_rows(write, tmp_path: Path) -> None:
    dataset = open_dataset(write(ten_samples(), tmp_path / "set"))
    write_without(dataset, doomed(dataset), tmp_path / "out")
    after = open_dataset(tmp_path / "out")
    parts = [after.vectors(shard) for shard in after.shards]
    stay = [i for i in range(10) if i not in GONE]
    assert np.array_equal(np.concatenate([part.image for part in parts]), image_vectors()[stay])
    assert np.array_equal(np.concatenate([part.text for part in parts]), text_vectors()[stay])
    assert tree(tmp_path / "out").keys() == tree(tmp_path / "set").keys()


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_an_array_that_is_longer_does_not_keep_the_dropped_rows(kind: str, tmp_path: Path) -> None:
    arrays = {"image": image_vectors(), "text": text_vectors(), "number": np.arange(10),
              "vocabulary": np.arange(11.0)}  # fmt: skip
    to = tmp_path / "set" / f"all.{kind}"
    put(to, safetensors(**arrays))
    if kind == "npz":
        np.savez(to, **arrays)
    dataset = open_dataset(tmp_path / "set")
    gone = {(sample.shard, sample.key) for sample in read_all(dataset) if int(sample.key) in GONE}
    assert write_without(dataset, gone, tmp_path / "out").kept == 7
    after = open_dataset(tmp_path / "out")
    found = after.vectors(after.shards[0])
    stay = [i for i in range(10) if i not in GONE]
    assert np.array_equal(found.image, arrays["image"][stay])
    assert found.text is not None and np.array_equal(found.text, arrays["text"][stay])
    shapes = {name: array_shape(str(tmp_path / "out" / to.name), name)[0] for name in arrays}
    assert shapes == {"image": 7, "text": 7, "number": 7, "vocabulary": 11}


def test_bad_samples_go_or_stay_as_asked_and_are_counted(tmp_path: Path) -> None:
    members = [("a.jpg", JPEG), ("b.jpg", JPEG), ("b.txt", b"fine"), ("c.txt", b"x")]
    dataset = open_dataset(make_tar(tmp_path / "set" / "t.tar", members))
    assert write_without(dataset, set(), tmp_path / "without") == Counts(kept=1, dropped=0, bad=2)
    assert write_without(dataset, set(), tmp_path / "with", drop_bad=False) == Counts(
        kept=1, dropped=0, bad=2
    )
    assert len(read_all(open_dataset(tmp_path / "without"))) == 1
    assert tree(tmp_path / "with") == tree(tmp_path / "set")


@pytest.mark.parametrize("drop_bad", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_cut_off_tar_is_written_whole_up_to_there(drop_bad: bool, packed: bool, tmp_path: Path) -> None:
    tar = (write_tar_gz if packed else write_tar)(ten_samples(), tmp_path / "set")
    whole = tar.read_bytes()
    for size in range(1, len(whole), len(whole) // 19):
        tar.write_bytes(whole[:size])
        kept = write_without(open_dataset(tar), set(), tmp_path / str(size), drop_bad=drop_bad).kept
        if (written := tmp_path / str(size) / tar.name).exists():
            with tarfile.open(written) as archive:
                assert len(archive.getnames()) >= 2 * kept
            assert len([s for s in read_all(open_dataset(written)) if s.key]) >= kept


def test_a_sample_on_the_list_that_is_not_there_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))
    with pytest.raises(DataError, match=r"not found .* 2 \(00000.tar/x, 00000.tar/y\)"):
        write_without(dataset, {("00000.tar", key) for key in ("x", "y", "000000000")}, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_counts_are_those_of_what_was_done_where_a_bad_one_has_the_name_of_a_good_one(tmp_path: Path) -> None:
    twice = [
        ("a.jpg", JPEG),
        ("a.txt", b"first"),
        ("b.jpg", JPEG),
        ("b.txt", b"x"),
        ("a.jpg", JPEG),
        ("a.txt", b"2"),
    ]
    dataset = open_dataset(make_tar(tmp_path / "set" / "t.tar", twice))
    known = {"scanned": lambda shard: {"a", "b"}}
    assert write_without(dataset, set(), tmp_path / "1", **known) == Counts(kept=2, dropped=0, bad=1)
    assert write_without(dataset, {("t.tar", "a")}, tmp_path / "2", **known) == Counts(1, 1, 1)
    assert [s.key for s in good(open_dataset(tmp_path / "2"))] == ["b"]
    assert write_without(dataset, set(), tmp_path / "3", drop_bad=False, **known) == Counts(2, 0, 1)
    only = {"scanned": lambda shard: {"b"}}  # a is not known: it cannot be decoded, say
    assert write_without(dataset, set(), tmp_path / "4", **only) == Counts(1, 0, 2)
    with pytest.raises(DataError, match=r"not found .* 1 \(t.tar/c\)"):
        write_without(dataset, set(), tmp_path / "5", scanned=lambda shard: {"b", "c"})


def test_two_rows_never_share_a_name(tmp_path: Path) -> None:
    names = ["x", "x#2", "x", "x#2#2", "x", "x#4"]
    rows = "\n".join(["filepath,title,key", *(f"p.jpg,fine,{name}" for name in names)])
    put(tmp_path / "set" / "p.jpg", JPEG)
    put(tmp_path / "set" / "t.csv", rows.encode())
    dataset = open_dataset(tmp_path / "set" / "t.csv")
    keys = [sample.key for sample in read_all(dataset)]
    assert len(set(keys)) == 6
    assert write_without(dataset, {("t.csv", keys[2])}, tmp_path / "out") == Counts(5, 1, 0)
