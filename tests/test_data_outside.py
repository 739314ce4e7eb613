"""Pictures that lie outside the dataset's folder: read where the user has said so, and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from data_helpers import JPEG, put, read_all, tree

from clipscan.data import Bad, Sample, open_dataset, write_without
from clipscan.errors import DataError, InputError


def csv_of(folder: Path, *names: str) -> Path:
    return put(folder / "t.csv", "\n".join(["filepath,title", *(f"{name},fine" for name in names)]).encode())


def jsonl_of(folder: Path, *names: str) -> Path:
    put(
        folder / "metadata.jsonl",
        "\n".join(json.dumps({"file_name": n, "text": "fine"}) for n in names).encode(),
    )
    return folder


@pytest.mark.parametrize("write", [csv_of, jsonl_of])
def test_a_root_opens_one_folder_and_no_other(write, tmp_path: Path) -> None:
    for place in ("set", "images", "other"):
        put(tmp_path / place / "x.jpg", JPEG)
    names = [str(tmp_path / "images" / "x.jpg"), "../images/x.jpg", "../other/x.jpg", "/etc/passwd"]
    source = write(tmp_path / "set", *names)
    closed = [o for o in read_all(open_dataset(source)) if o.key != "x"]
    assert [type(o) for o in closed] == [Bad] * 4
    assert all("--root DIR" in bad.reason for bad in closed)
    opened = [o for o in read_all(open_dataset(source, roots=[tmp_path / "images"])) if o.key != "x"]
    bad = [o.reason for o in opened if isinstance(o, Bad)]
    assert len(opened) - len(bad) == 2
    assert len(bad) == 2 and all("outside" in reason or "leads out" in reason for reason in bad)


def test_a_link_inside_a_root_leads_nowhere_else(tmp_path: Path) -> None:
    put(tmp_path / "secret.jpg", JPEG)
    put(tmp_path / "images" / "x.jpg", JPEG)
    os.symlink("../secret.jpg", tmp_path / "images" / "y.jpg")
    source = csv_of(tmp_path / "set", f"{tmp_path}/images/y.jpg", f"{tmp_path}/images/x.jpg")
    outcomes = read_all(open_dataset(source, roots=[tmp_path / "images"]))
    assert [type(o) for o in outcomes] == [Bad, Sample]


def test_a_table_in_a_subfolder_names_pictures_anywhere_in_the_dataset(tmp_path: Path) -> None:
    put(tmp_path / "images" / "x.jpg", JPEG)
    source = csv_of(tmp_path / "annotations", "../images/x.jpg", "images/x.jpg")
    assert [type(o) for o in read_all(open_dataset(tmp_path))] == [Sample, Sample]
    assert [type(o) for o in read_all(open_dataset(source))] == [Bad, Bad]
    assert [type(o) for o in read_all(open_dataset(source, roots=[tmp_path]))] == [Sample, Sample]


def test_a_linked_picture_folder_is_followed_into_a_root(tmp_path: Path) -> None:
    for name in ("a", "sub/b"):
        put(tmp_path / "images" / f"{name}.jpg", JPEG)
        put(tmp_path / "images" / f"{name}.txt", b"fine")
    put(tmp_path / "set" / "c.jpg", JPEG)
    put(tmp_path / "set" / "c.txt", b"fine")
    os.symlink(tmp_path / "images", tmp_path / "set" / "link")
    os.symlink(tmp_path / "images", tmp_path / "images" / "round")
    os.symlink("/etc", tmp_path / "set" / "etc")
    closed = open_dataset(tmp_path / "set")
    assert "2 linked folders or special files passed over; --root" in closed.describe()
    opened = open_dataset(tmp_path / "set", roots=[tmp_path / "images"])
    assert [o.key for o in read_all(opened)] == ["c", "link/a", "link/sub/b"]
    assert all(isinstance(o, Sample) for o in read_all(opened))
    write_without(opened, {(".", "link/a")}, tmp_path / "clean")
    assert set(tree(tmp_path / "clean")) == {"c.jpg", "c.txt", "link/sub/b.jpg", "link/sub/b.txt"}


def hub_snapshot(repository: Path) -> Path:
    """Two pictures and their metadata as huggingface_hub keeps them: links into ../../blobs."""
    folder = repository / "snapshots" / "0123abcd"
    lines = [{"file_name": f"{name}.jpg", "text": "fine"} for name in ("train/a", "b")]
    files = {"train/a.jpg": JPEG, "b.jpg": JPEG, "metadata.jsonl": "\n".join(map(json.dumps, lines)).encode()}
    for number, (name, data) in enumerate(files.items()):
        put(repository / "blobs" / f"{number:064x}", data)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(
            os.path.relpath(repository / "blobs" / f"{number:064x}", (folder / name).parent), folder / name
        )
    return folder


def test_a_snapshot_of_the_hub_is_read_through_its_links(tmp_path: Path) -> None:
    folder = hub_snapshot(tmp_path / "datasets--a--b")
    assert [o.key for o in read_all(open_dataset(folder)) if isinstance(o, Sample)] == ["b", "train/a"]
    below = read_all(open_dataset(folder / "train"))
    assert "leads out" not in below[0].reason and "caption" in below[0].reason


def test_blobs_of_another_repository_are_not_read(tmp_path: Path) -> None:
    folder = hub_snapshot(tmp_path / "datasets--a--b")
    put(tmp_path / "datasets--x--y" / "blobs" / "0", JPEG)
    os.symlink("../../../datasets--x--y/blobs/0", folder / "c.jpg")
    put(tmp_path / "datasets--a--b" / "refs" / "main", JPEG)
    os.symlink("../../refs/main", folder / "d.jpg")
    put(folder / "c.txt", b"x")
    bad = [o for o in read_all(open_dataset(folder)) if isinstance(o, Bad)]
    assert [o.key for o in bad] == ["c", "d"]
    assert all("leads out" in o.reason for o in bad)


def test_a_folder_named_snapshots_alone_opens_nothing(tmp_path: Path) -> None:
    put(tmp_path / "secret" / "x.jpg", JPEG)
    put(tmp_path / "snapshots" / "1" / "x.txt", b"x")
    os.symlink("../../secret/x.jpg", tmp_path / "snapshots" / "1" / "x.jpg")
    os.symlink(tmp_path / "secret", tmp_path / "blobs")
    (bad,) = read_all(open_dataset(tmp_path / "snapshots" / "1"))
    assert "leads out" in bad.reason


def test_the_copy_of_a_table_finds_the_pictures_that_a_root_gave(tmp_path: Path) -> None:
    put(tmp_path / "images" / "sub" / "x.jpg", JPEG)
    put(tmp_path / "images" / "y.jpg", JPEG)
    source = csv_of(tmp_path / "set", "sub/x.jpg", f"{tmp_path}/images/y.jpg")
    roots = [tmp_path / "images"]
    write_without(open_dataset(source, roots=roots), set(), tmp_path / "clean")
    assert set(tree(tmp_path / "clean")) == {"t.csv", "sub/x.jpg"}
    outcomes = read_all(open_dataset(tmp_path / "clean" / "t.csv", roots=roots))
    assert [type(o) for o in outcomes] == [Sample, Sample]


def test_a_copy_that_would_not_find_its_pictures_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "images" / "x.jpg", JPEG)
    for write in (csv_of, jsonl_of):
        source = write(tmp_path / write.__name__, "../images/x.jpg")
        dataset = open_dataset(
            source, roots=[tmp_path / "images"], format="csv" if write is csv_of else "folder"
        )
        with pytest.raises(DataError, match="keep.txt"):
            write_without(dataset, set(), tmp_path / "clean")
        assert not (tmp_path / "clean").exists()


def test_a_root_has_to_be_a_folder_of_a_format_that_has_roots(tmp_path: Path) -> None:
    source = csv_of(tmp_path, "x.jpg")
    with pytest.raises(InputError, match="not a folder"):
        open_dataset(source, roots=[tmp_path / "nowhere"])
    put(tmp_path / "t.tar", bytes(10240))
    with pytest.raises(InputError, match="is webdataset"):
        open_dataset(tmp_path / "t.tar", roots=[tmp_path])


def test_paths_written_on_windows_are_read(tmp_path: Path) -> None:
    put(tmp_path / "c" / "sub" / "x.jpg", JPEG)
    put(tmp_path / "secret.jpg", JPEG)
    source = csv_of(tmp_path / "c", "sub\\x.jpg", "..\\secret.jpg", "sub\\no.jpg")
    outcomes = read_all(open_dataset(source))
    assert [type(o) for o in outcomes] == [Sample, Bad, Bad]
    assert "leads out" in outcomes[1].reason
    write_without(open_dataset(source), set(), tmp_path / "clean")
    assert set(tree(tmp_path / "clean")) == {"t.csv", "sub/x.jpg"}
    put(tmp_path / "f" / "sub" / "x.jpg", JPEG)
    jsonl_of(tmp_path / "f", "sub\\x.jpg")
    assert [(type(o), o.key) for o in read_all(open_dataset(tmp_path / "f"))] == [(Sample, "sub/x")]


def test_a_link_back_to_the_dataset_shows_no_picture_twice(tmp_path: Path) -> None:
    put(tmp_path / "set" / "x.jpg", JPEG)
    put(tmp_path / "set" / "x.txt", b"fine")
    for name, end in {"loop": ".", "above": "..", "sub": "../set"}.items():
        (tmp_path / "set" / name).symlink_to(end)
    dataset = open_dataset(tmp_path / "set", roots=[tmp_path])
    assert [o.key for o in read_all(dataset)] == ["x"]
    assert "3 linked folders or special files passed over" in dataset.describe()
