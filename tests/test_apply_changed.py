"""apply cleans what was scanned: a dataset that is no longer what a run was made from is refused."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from changed_helpers import checkpoint, files, keep_time, painted, put_back, refuses, reverse_rows, scanned  # noqa: F401
from data_helpers import make_tar, tree
from layouts import ALL, VECTORS, sample_members

import clipscan
from clipscan import pipeline
from clipscan.data import atomic
from clipscan.run import Run, digests

pytest.importorskip("torch", reason="needs clipscan[embed]")


def largest(folder: Path) -> Path:
    return max(files(folder), key=lambda path: path.stat().st_size)


def flip_a_byte(folder: Path) -> None:
    path = largest(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    keep_time(path, bytes(data))


def cut_a_file(folder: Path) -> None:
    path = largest(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_a_file(folder: Path) -> None:
    path = max(files(folder), key=lambda path: (path.suffix in (".jpg", ".JPG"), path.name))
    path.unlink()


def lose_a_row(folder: Path) -> None:
    """Of the table, or of the archive's end: the file becomes shorter, and is valid."""
    table = next(folder.glob("*.csv"), None) or next(folder.rglob("*.tsv"))
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join([*lines[:1], *lines[2:]]))


@pytest.mark.parametrize("layout", ALL)
def test_apply_writes_what_was_scanned_also_when_it_was_touched(
    layout: str, scanned, tmp_path: Path, monkeypatch
) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        for path in files(folder):
            os.utime(path, (1, 1))
        counts = pipeline.apply(Run(run), tmp_path / "out")
        assert (counts.kept, counts.dropped, counts.bad) == (8, 2, 0)
        opened: list[str] = []
        monkeypatch.setattr(digests, "open_binary", lambda path: opened.append(path))
        _ = Run(run).dataset
        assert not opened, "what was found to be the same once is not read again"


@pytest.mark.parametrize("change", [cut_a_file, remove_a_file])
@pytest.mark.parametrize("layout", ALL)
def test_apply_refuses_a_dataset_whose_files_were_cut_or_removed(
    layout: str, change, scanned, tmp_path: Path
) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        change(folder)
        refuses(run, tmp_path / "out", "1 (changed|gone) |cannot be opened where it lay")


@pytest.mark.parametrize("layout", ALL)
def test_apply_reads_the_bytes_and_does_not_believe_the_time(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder), put_back(run):
        flip_a_byte(folder)
        refuses(run, tmp_path / "out", "does not hold what was scanned|not found|cannot write|1 changed")


@pytest.mark.parametrize("layout", ["Hugging Face parquet", "plain parquet", *VECTORS])
def test_apply_refuses_reversed_rows(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        reverse_rows(folder)
        refuses(run, tmp_path / "out", "changed")


@pytest.mark.parametrize("layout", ["csv", "tsv in a folder", "metadata.csv"])
def test_apply_refuses_a_table_that_lost_a_row(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        lose_a_row(folder)
        refuses(run, tmp_path / "out", "changed")


@pytest.mark.parametrize("layout", ["csv", "tsv in a folder", "img2dataset files", "metadata.jsonl"])
def test_apply_refuses_a_replaced_picture_and_names_it(layout: str, scanned, tmp_path: Path) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        picture = next(folder.rglob("000000004.jpg"))
        picture.write_bytes(painted(7)[0].image or b"")
        refuses(run, tmp_path / "out", r"1 changed \((images/)?000000004\.jpg\)")
        keep_time(picture, painted(8)[0].image or b"")


def test_apply_refuses_a_tar_that_was_rewritten_under_other_keys(scanned, tmp_path: Path) -> None:
    folder, run = scanned("tar")
    with put_back(folder):
        tar = folder / "00000.tar"
        before = tar.stat()
        others = [replace(s, key=s.key.replace("0000000", "7777777")) for s in painted(0)]
        make_tar(tar, [m for s in others for m in sample_members(s)])
        assert tar.stat().st_size == before.st_size
        refuses(run, tmp_path / "out", r"1 changed \(00000\.tar\)")
        os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))
        refuses(run, tmp_path / "out", "not found|does not hold")


@pytest.mark.parametrize("layout", ["tar", "tar folder", "plain parquet", "clip-retrieval"])
def test_a_file_added_since_is_refused_or_left_out_but_never_copied(
    layout: str, scanned, tmp_path: Path
) -> None:
    folder, run = scanned(layout)
    with put_back(folder):
        plain = pipeline.apply(Run(run), tmp_path / "plain")
        old = next(path for path in files(folder) if "text_emb" not in str(path))
        added = old.with_name(old.name.replace("0", "5", 1))
        shutil.copyfile(old, added)
        refuses(run, tmp_path / "out", rf"1 new \(.*{added.name}\)")
        counts = pipeline.apply(Run(run), tmp_path / "out", leave_out_unscanned=True)
        assert counts[:3] == plain[:3]
        assert counts.left_out == (added.relative_to(folder).as_posix(),)
        assert tree(tmp_path / "out") == tree(tmp_path / "plain")


def test_a_changed_file_is_left_out_on_request_and_its_samples_are_not_missed(
    scanned, tmp_path: Path
) -> None:
    folder, run = scanned("tar folder")
    with put_back(folder):
        make_tar(folder / "part0" / "00000.tar", sample_members(painted(5)[0]))
        refuses(run, tmp_path / "out", "1 changed")
        counts = pipeline.apply(Run(run), tmp_path / "out", leave_out_unscanned=True)
        assert counts.left_out == ("part0/00000.tar",)
        assert counts.kept + counts.dropped == 4
        assert list(tree(tmp_path / "out")) == ["part1/00000.tar"] or list(tree(tmp_path / "out")) == [
            "00000.tar"
        ]


def test_apply_does_not_write_into_the_dataset_or_the_run(scanned) -> None:
    folder, run = scanned("tar")
    for target in (folder / "out", folder, run / "cleaned"):
        with pytest.raises(clipscan.RunError, match="lies inside"):
            pipeline.apply(Run(run), target)
    assert list(tree(folder)) == ["00000.tar"]


def test_a_run_that_can_only_be_read_serves_for_a_touched_dataset(
    scanned, tmp_path: Path, monkeypatch
) -> None:
    folder, run = scanned("tar")

    def refuse(draft: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with put_back(folder):
        for path in files(folder):
            os.utime(path, (7, 7))
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "rename", refuse)
            assert pipeline.apply(Run(run), tmp_path / "out")[:3] == (8, 2, 0)
            assert "rank" in pipeline.explain(Run(run), "000000004")


@pytest.mark.parametrize("kind", [os.mkdir, os.mkfifo])
def test_a_file_whose_name_something_else_has_taken_is_gone(kind, scanned, tmp_path: Path) -> None:
    folder, run = scanned("tar folder")
    with put_back(folder):
        (tar := folder / "part0" / "00000.tar").unlink()
        kind(tar)
        refuses(run, tmp_path / "out", r"1 gone \(part0/00000.tar\)")


@pytest.mark.parametrize("layout", ALL)
def test_apply_says_where_the_disk_is_full_and_leaves_nothing(layout: str, scanned, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a system that can limit the size of files")
    _, run = scanned(layout)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        refuses(run, tmp_path / "out", r"out cannot be written: .*choose another target")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert pipeline.apply(Run(run), tmp_path / "out")[:3] == (8, 2, 0)
