"""Datasets by URL, list and brace: what is named is read, what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_helpers import good, make_tar, put, read_all, ten_samples
from layouts import write_tar

from clipscan.data import Bad, Sample, open_dataset
from clipscan.errors import DataError, InputError


def test_brace_lists_and_double_colons_name_tars(tmp_path: Path) -> None:
    for i in range(3):
        make_tar(tmp_path / f"{i:05d}.tar", [(f"{i}.jpg", b"1"), (f"{i}.txt", b"x")])
    braces = open_dataset(f"{tmp_path}/{{00000..00002}}.tar")
    colons = open_dataset(f"{tmp_path}/00000.tar::{tmp_path}/{{00001..00002}}.tar")
    listed = open_dataset([tmp_path / "00000.tar", f"file://{tmp_path}/00001.tar", tmp_path / "00002.tar"])
    assert [s.name for s in braces.shards] == ["00000.tar", "00001.tar", "00002.tar"]
    assert braces.shards == colons.shards == listed.shards


def test_fsspec_urls_are_read_like_files(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/set/00000.tar", write_tar(ten_samples(), tmp_path).read_bytes())
    try:
        for source in ("memory://set/{00000..00000}.tar", "memory://set"):
            dataset = open_dataset(source)
            assert good(dataset) == ten_samples()
            assert [shard.name for shard in dataset.shards] == ["00000.tar"]
    finally:
        memory.rm("/set", recursive=True)


def test_s3_without_its_driver_says_what_to_install() -> None:
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"clipscan\[s3\]"):
            open_dataset("s3://bucket/{00000..00009}.tar")
    else:
        pytest.skip("s3fs is installed; uninstall it to see the message")


def test_a_missing_shard_of_many_is_bad_and_all_missing_is_an_error(tmp_path: Path) -> None:
    make_tar(tmp_path / "00000.tar", [("a.jpg", b"1"), ("a.txt", b"x")])
    outcomes = read_all(open_dataset(f"{tmp_path}/{{00000..00001}}.tar"))
    assert [type(outcome) for outcome in outcomes] == [Sample, Bad]
    assert "No such file" in outcomes[1].reason
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset(f"{tmp_path}/{{00007..00009}}.tar")


def test_nothing_to_read_says_what_was_found(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4", b"1")
    put(tmp_path / "b.mp4", b"1")
    put(tmp_path / "README", b"1")
    with pytest.raises(DataError, match=r"2 \.mp4, 1 without extension"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no webdataset dataset"):
        open_dataset(tmp_path, format="webdataset")
    with pytest.raises(InputError, match="unknown format"):
        open_dataset(tmp_path, format="zip")


def test_a_pipe_is_refused_since_it_runs_a_command() -> None:
    with pytest.raises(DataError, match="run a command"):
        open_dataset("pipe:cat x.tar")
