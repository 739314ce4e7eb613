"""The one writer: what exists is finished, what the system refuses is said in words, nothing is left over."""

import errno
import os
import resource
import subprocess
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest

from clipscan.data import atomic
from clipscan.errors import RunError
from clipscan.run.file_io import write_array, write_json, write_table

WRITERS = {
    "a.npy": lambda path: write_array(path, np.zeros((500, 100), np.float16)),
    "a.parquet": lambda path: write_table(path, pa.table({"a": np.random.default_rng(0).random(20_000)})),
    "a.json": lambda path: write_json(path, {"a": "x" * 100_000}),
}


@contextmanager
def files_of_at_most(size):
    """The system refuses to make any file of this process longer, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 64 kB that is really full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as refused:
        pytest.skip(f"needs the right to mount a tmpfs: {refused}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written_is_named_and_the_file_before_it_stays(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"as it was")
    with (
        files_of_at_most(4096),
        pytest.raises(RunError, match=f"{name} cannot be written: it would be larger"),
    ):
        WRITERS[name](path)
    assert path.read_bytes() == b"as it was" and names(tmp_path) == [name]
    WRITERS[name](path)
    assert path.stat().st_size > 4096


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_an_error_in_words_and_leaves_no_half_file(tiny_disk, name):
    with pytest.raises(RunError, match=f"{name} cannot be written: the disk is full"):
        WRITERS[name](tiny_disk / "folder" / name)
    assert names(tiny_disk / "folder") == []


def test_a_read_only_disk_is_an_error_in_words(tiny_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(RunError, match=r"a\.json cannot be written: the file system is read-only"):
        write_json(tiny_disk / "a.json", {})


@pytest.mark.parametrize("number", sorted(atomic.REFUSALS))
def test_every_refusal_of_the_system_is_said_in_words(tmp_path, monkeypatch, number):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match=atomic.REFUSALS[number]):
        write_json(tmp_path / "a.json", {})
    assert names(tmp_path) == []


def test_an_error_of_reading_is_not_taken_for_one_of_writing(tmp_path):
    elsewhere = tmp_path / "not readable"
    with pytest.raises(PermissionError), atomic.replacing(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", str(elsewhere))


def test_a_path_through_a_file_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="is a file, not a folder"):
        write_json(tmp_path / "file/run/a.json", {})


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4), np.zeros((0, 5), np.float16), np.asfortranarray(np.ones((3, 2))),
        np.arange(20)[::3], np.array([(1, 2), (3, 4)], "u8,u8"),
    ],
)  # fmt: skip
def test_arrays_are_the_bytes_that_numpy_writes(tmp_path, array):
    write_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", np.ascontiguousarray(array))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_the_data_is_on_the_disk_before_its_name_and_the_name_before_it_goes_on(tmp_path, monkeypatch):
    done = []
    sync, rename = os.fsync, atomic.rename

    def spy(descriptor):
        done.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def moved(draft, target):
        done.append(("rename", target.name))
        rename(draft, target)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(atomic, "rename", moved)
    write_json(tmp_path / "a.json", {})
    assert done == [("sync", f".a.json.{os.getpid()}.part"), ("rename", "a.json"), ("sync", tmp_path.name)]


def test_only_records_wait_for_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_array(tmp_path / "a.npy", np.zeros(3))
    write_table(tmp_path / "a.parquet", pa.table({"a": [1]}))
    assert names(tmp_path) == ["a.npy", "a.parquet"] and not synced
    write_json(tmp_path / "a.json", {})
    assert len(synced) == 2


def test_drafts_of_killed_writers_are_swept_and_nothing_else(tmp_path):
    kept = [".a.part", "a.npy.12.part", ".hidden", "b.json"]
    (tmp_path / "deep").mkdir()
    for name in (*kept, ".a.npy.12.part", "deep/.b.json.4.part"):
        (tmp_path / name).write_bytes(b"x")
    atomic.sweep(tmp_path)
    assert names(tmp_path) == sorted([*kept, "deep"]) and names(tmp_path / "deep") == []


def test_a_training_that_cannot_write_its_state_says_so(tmp_path):
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    from clipscan.train.state import save_tensors

    path = tmp_path / "state.safetensors"
    path.write_bytes(b"as it was")
    with files_of_at_most(4096), pytest.raises(RunError, match=r"state\.safetensors cannot be written"):
        save_tensors(path, {"a": torch.zeros(10_000)}, {})
    assert path.read_bytes() == b"as it was" and names(tmp_path) == [path.name]
