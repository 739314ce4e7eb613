"""Folders, tables and arrays, whatever they hold, end with samples and reasons, never with an exception."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import JPEG, PAIR, good, only_bad, put, read_all, ten_samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import write_csv, write_hf_parquet, write_metadata_jsonl, write_tar, write_tar_gz

from clipscan.data import Bad, Sample, open_dataset
from clipscan.errors import DataError


def test_a_picture_folder_reads_nothing_outside_itself(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    put(tmp_path / "secret.txt", b"the secret")
    put(tmp_path / "secret.jpg", JPEG)
    for name, data in PAIR:
        put(folder / name, data)
    put(folder / "a.jpg", JPEG)
    os.symlink("../secret.txt", folder / "a.txt")
    os.symlink("../secret.jpg", folder / "b.jpg")
    put(folder / "b.txt", b"x")
    os.symlink("ok.jpg", folder / "c.jpg")  # stays inside: fine
    put(folder / "c.txt", b"x")
    os.mkfifo(folder / "d.txt")
    put(folder / "d.jpg", JPEG)
    os.symlink("..", folder / "up")
    dataset = open_dataset(folder)
    outcomes = {outcome.key: outcome for outcome in read_all(dataset)}
    assert sorted(outcomes) == ["a", "b", "c", "d", "ok"]
    assert "leads out" in outcomes["a"].reason
    assert "leads out" in outcomes["b"].reason
    assert isinstance(outcomes["c"], Sample)
    assert "not a regular file" in outcomes["d"].reason
    assert "passed over" in dataset.describe()


def test_metadata_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "x.jpg", JPEG)
    put(tmp_path / "set" / "ok.jpg", JPEG)
    names = [
        "../x.jpg",
        str(tmp_path / "x.jpg"),
        "sub/../../x.jpg",
        "..\\x.jpg",
        "",
        7,
        "no.jpg",
        "n\0.jpg",
        "ok.jpg",
    ]
    lines = [json.dumps({"file_name": name, "text": "fine"}) for name in names]
    put(tmp_path / "set" / "metadata.jsonl", "\n".join([*lines, "[", "[" * 99_999]).encode())
    outcomes = read_all(open_dataset(tmp_path / "set"))
    assert [o.key for o in outcomes if isinstance(o, Sample)] == ["ok"]
    reasons = [o.reason for o in outcomes if isinstance(o, Bad)]
    assert len(reasons) == 10
    assert sum("outside its folder: refused" in r for r in reasons) == 4
    assert sum("names no file" in r for r in reasons) == 2
    assert sum("cannot read 'no.jpg'" in r for r in reasons) == 1
    assert sum("not JSON" in r or "nested" in r for r in reasons) == 2


def test_csv_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "x.jpg", JPEG)
    put(tmp_path / "set" / "ok.jpg", JPEG)
    names = ["../x.jpg", str(tmp_path / "x.jpg"), "", "/dev/zero", str(tmp_path / "set" / "ok.jpg")]
    put(tmp_path / "set" / "t.csv", "\n".join(["filepath,title", *(f"{n},fine" for n in names)]).encode())
    outcomes = read_all(open_dataset(tmp_path / "set"))
    assert [type(o) for o in outcomes] == [Bad, Bad, Bad, Bad, Sample]
    assert "row 2 names no picture" in outcomes[2].reason


def test_a_spoilt_csv_row_is_bad_and_the_next_one_is_not(tmp_path: Path) -> None:
    put(tmp_path / "ok.jpg", JPEG)
    rows = [b"ok.jpg,caf\xe9", b"ok.jpg", b"", b'ok.jpg,"' + b"x" * 200_000 + b'"', b"ok.jpg,fine"]
    put(tmp_path / "t.csv", b"filepath,title\n" + b"\n".join(rows))
    outcomes = read_all(open_dataset(tmp_path / "t.csv"))
    assert [type(o) for o in outcomes] == [Bad, Bad, Bad, Sample]
    assert "not valid Unicode" in outcomes[0].reason
    assert "caption is missing" in outcomes[1].reason
    assert "not valid csv" in outcomes[2].reason


def test_an_endless_csv_line_is_not_read_into_memory(tmp_path: Path) -> None:
    put(tmp_path / "ok.jpg", JPEG)
    put(tmp_path / "t.csv", b"filepath,title\nok.jpg,fine\n" + bytes(30 << 20))
    assert "more than" in only_bad(tmp_path / "t.csv").reason


def test_undecodable_file_names_survive_in_escaped_form(tmp_path: Path) -> None:
    put(tmp_path / "ok.jpg", JPEG)
    put(tmp_path / "ok.txt", b"fine")
    for ending in (b".jpg", b".txt"):
        with open(os.fsencode(tmp_path) + b"/caf\xe9" + ending, "wb") as out:
            out.write(JPEG if ending == b".jpg" else b"fine")
    samples = good(open_dataset(tmp_path))
    assert [s.key for s in samples] == [r"caf\xe9", "ok"]


def test_two_pictures_of_one_name_are_one_sample_and_one_bad(tmp_path: Path) -> None:
    for name in ("ok.jpg", "ok.png"):
        put(tmp_path / name, JPEG)
    put(tmp_path / "ok.txt", b"fine")
    assert "same key" in only_bad(tmp_path).reason


def test_spoilt_parquet_rows_are_bad_with_their_reason(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [
        None,
        {"bytes": b""},
        {"path": "/etc/passwd"},
        {"bytes": JPEG},
        {"bytes": JPEG},
        {"bytes": JPEG},
    ]
    captions = pa.array([b"x", b"x", b"x", None, b"caf\xe9", b"fine"]).cast(pa.binary())
    captions = pa.Array.from_buffers(pa.string(), 6, captions.buffers())  # an invalid string column
    rows = pa.table(
        {"image": pa.array(images, kind), "text": captions, "id": ["a", "b", "c", "d", "e", "ok"]}
    )
    pq.write_table(rows, tmp_path / "t.parquet")
    outcomes = read_all(open_dataset(tmp_path / "t.parquet"))
    assert [o.key for o in outcomes] == ["a", "b", "c", "d", "e", "ok"]
    assert isinstance(outcomes[5], Sample)
    reasons = [o.reason for o in outcomes[:5]]
    wanted = ["picture is missing", "0 bytes", "such files are not read", "caption is missing", "not UTF-8"]
    assert all(want in reason for want, reason in zip(wanted, reasons, strict=True)), reasons


def test_a_broken_parquet_file_is_one_bad(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [JPEG], "text": ["fine"], "key": ["ok"]}), tmp_path / "a.parquet")
    put(tmp_path / "b.parquet", b"PAR1" + bytes(100) + b"PAR1")
    bad = only_bad(tmp_path)
    assert (bad.shard, bad.key) == ("b.parquet", "")


def test_parquet_without_captions_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [JPEG], "label": [3]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"label \(int64\).*--text-key"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([{"evil": 1}], dtype=object), "bject"),
        (np.zeros(3), "of shape"),
        (np.zeros((3, 3), int), "int64"),
        (np.zeros((3, 3), complex), "complex128"),
    ],
)
def test_arrays_that_are_no_embeddings_are_refused(array: np.ndarray, reason: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", l14_img=array)
    for source in ("a.npy", "a.npz"):
        dataset = open_dataset(tmp_path / source)
        with pytest.raises(DataError, match=reason):
            dataset.vectors(dataset.shards[0])


def test_an_array_that_declares_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 8)}
    )
    put(tmp_path / "a.npy", header.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("l14_img.npy", header.getvalue() + bytes(64))
    for source in ("a.npy", "b.npz"):
        dataset = open_dataset(tmp_path / source)
        with pytest.raises(DataError, match="cannot read"):
            dataset.vectors(dataset.shards[0])


def test_embeddings_of_uneven_length_do_not_pair(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 2), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((4, 2), np.float32))
    dataset = open_dataset(tmp_path / "a.npy", text_key="b.npy")
    with pytest.raises(DataError, match="3 rows"):
        dataset.vectors(dataset.shards[0])
    vectors = pa.array([[1.0, 2.0], [1.0], None])
    pq.write_table(pa.table({"embedding": vectors}), tmp_path / "t.parquet")
    sample, short, missing = read_all(open_dataset(tmp_path / "t.parquet"))
    assert isinstance(sample, Sample) and isinstance(short, Bad) and isinstance(missing, Bad)
    assert "is of width 1, others of width 2 (row 1)" in short.reason
    assert "is missing (row 2)" in missing.reason


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=12)), max_size=6))
@pytest.mark.parametrize(
    "write", [write_tar, write_tar_gz, write_hf_parquet, write_csv, write_metadata_jsonl]
)
def test_no_flipped_bytes_raise(write, flips: list[tuple[int, bytes]], tmp_path: Path) -> None:
    """Tar, gzip, parquet and tables with bytes overwritten read to an end, or are refused whole."""
    base = tmp_path / "whole"
    if not base.exists():
        write(ten_samples(), base)
    folder = tmp_path / "flipped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    victim = next(p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix != ".jpg")
    data = bytearray(victim.read_bytes())
    for at, new in flips:
        at %= len(data)
        data[at : at + len(new)] = new
    victim.write_bytes(data)
    try:
        outcomes = read_all(open_dataset(folder))
    except DataError:
        return
    assert all(outcome.reason for outcome in outcomes if isinstance(outcome, Bad))
