"""Where a cleaned dataset is written: made whole or not at all, and nothing of others is replaced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_helpers import JPEG, put, ten_samples, tree
from layouts import write_tar

from clipscan.data import Counts, Shard, open_dataset, write_without
from clipscan.data.write_target import staged
from clipscan.errors import DataError


def test_a_target_that_holds_something_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))
    put(tmp_path / "out" / "mine.txt", b"1")
    with pytest.raises(DataError, match="not an empty folder"):
        write_without(dataset, set(), tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert write_without(dataset, set(), tmp_path / "empty").kept == 10


def test_a_drop_list_of_another_dataset_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))
    with pytest.raises(DataError, match=r"'00001\.tar'"):
        write_without(dataset, {("00001.tar", "000000000")}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_name_leaves_the_target(tmp_path: Path) -> None:
    put(tmp_path / "x.jpg", JPEG)
    put(tmp_path / "set" / "ok.jpg", JPEG)
    put(tmp_path / "set" / "sub" / "ok.jpg", JPEG)
    rows = ["../x.jpg", str(tmp_path / "x.jpg"), "sub/../../x.jpg", "sub/../ok.jpg", "ok.jpg"]
    put(
        tmp_path / "set" / "t.csv", "\n".join(["filepath,title", *(f"{name},fine" for name in rows)]).encode()
    )
    counts = write_without(open_dataset(tmp_path / "set"), set(), tmp_path / "a" / "out", drop_bad=False)
    assert counts == Counts(kept=2, dropped=0, bad=3)
    assert sorted(tree(tmp_path / "a")) == ["out/ok.jpg", "out/t.csv"]


def test_a_failed_writing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))
    monkeypatch.setattr(dataset.shards[0].__class__, "name", property(lambda self: "../evil"))
    with pytest.raises(DataError, match="leads out"):
        write_without(dataset, set(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_link_to_an_empty_folder_is_followed_before_anything_is_written(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert write_without(dataset, set(), tmp_path / "out").kept == 10
    assert (tmp_path / "out").is_symlink() and list(tree(tmp_path / "disk")) == ["00000.tar"]
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    assert write_without(dataset, set(), tmp_path / "new").kept == 10
    assert list(tree(tmp_path / "elsewhere")) == ["00000.tar"]


def test_a_target_that_cannot_be_replaced_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))
    (tmp_path / "full").mkdir()
    put(tmp_path / "full" / "mine.txt", b"1")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    put(tmp_path / "file", b"1")
    monkeypatch.setattr(dataset.__class__, "records", None)
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(tmp_path / "mount"))
    (tmp_path / "mount").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    for name, words in {
        "link": "not an empty folder", "round": "leads nowhere", "file": "not an empty folder",
        "mount": "mount point", "file/out": "cannot write beside",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=words):
            write_without(dataset, set(), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert tree(tmp_path / "full") == {"mine.txt": b"1"}


def test_a_target_filled_meanwhile_is_left_alone_and_the_work_is_kept(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path / "set"))

    def verify(_shard: Shard) -> None:
        put(tmp_path / "out" / "mine.txt", b"1")

    with pytest.raises(DataError, match="all is written, but to .*/out-"):
        write_without(dataset, set(), tmp_path / "out", verify=verify)
    assert tree(tmp_path / "out") == {"mine.txt": b"1"}
    (spare,) = tmp_path.glob("out-*")
    assert list(tree(spare)) == ["00000.tar"]


def test_what_a_killed_writer_left_goes_and_what_a_living_one_holds_stays(tmp_path: Path) -> None:
    source = write_tar(ten_samples(), tmp_path / "set")
    command = (
        "import os, sys; from clipscan.data import open_dataset, write_without\n"
        "kill = lambda shard: os.kill(os.getpid(), 9)\n"
        "write_without(open_dataset(sys.argv[1]), set(), sys.argv[2], verify=kill)"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", command, str(source), str(tmp_path / "out")], check=False
    )
    assert ended.returncode == -9
    assert len(list(tmp_path.glob(".out.*.part"))) == 1
    alike = [
        put(tmp_path / name / "mine.txt", b"1")
        for name in (".out.part", ".out.12345678.parts", ".outer.12345678.part")
    ]
    with staged(tmp_path / "out") as living:
        put(living / "a.txt", b"1")
        dataset = open_dataset(source)
        assert write_without(dataset, set(), tmp_path / "out").kept == 10
        assert list(tmp_path.glob(".out.*.part")) == [living]
        shutil.rmtree(tmp_path / "out")
    assert list(tree(tmp_path / "out")) == ["a.txt"]
    assert all(path.exists() for path in alike)
