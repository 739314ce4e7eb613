"""A scan whose disk is full, or read-only: one error in words, no half file, and it goes on later."""

import subprocess
import sys

import numpy as np
import pytest
from run_helpers import contents, scan_vectors
from test_atomic import files_of_at_most, tiny_disk  # noqa: F401

import clipscan
from clipscan.run import RunFolder


@pytest.fixture
def vectors(tmp_path):
    rows = np.random.default_rng(0).standard_normal((900, 16)).astype(np.float32)
    rows[5] = np.nan  # bad: the others are copied into the run
    np.save(tmp_path / "a.npy", rows)
    return tmp_path / "a.npy"


def drafts(run):
    return [path for path in run.rglob("*") if path.name.endswith(".part")]


def test_a_scan_that_meets_a_limit_anywhere_says_what_it_could_not_write_and_goes_on_later(vectors, tmp_path):
    whole = contents(scan_vectors(vectors, tmp_path / "run").out)
    (tmp_path / "run").rename(tmp_path / "whole")
    sizes = sorted({path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file()})
    refused = set()
    for size in sizes[:-1]:  # from the smallest on, each time one more file can be written
        with files_of_at_most(size), pytest.raises(clipscan.RunError, match="cannot be written") as error:
            scan_vectors(vectors, tmp_path / "run")
        refused.add(str(error.value).partition(" cannot be written")[0].rpartition("/")[2])
        assert not drafts(tmp_path / "run")
    assert {"run.json", "img_emb_00000.npy"} < refused
    scan_vectors(vectors, tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_a_full_disk_is_one_line_on_the_command_line(vectors, tiny_disk):
    command = [
        sys.executable,
        "-P",
        "-m",
        "clipscan",
        "scan",
        str(vectors),
        "--out",
        str(tiny_disk / "run"),
        "--k",
        "4",
    ]
    done = subprocess.run([*command, "--reference", "30x2"], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot be written: the disk is full" in done.stderr.splitlines()[-1]
    assert not drafts(tiny_disk)


def test_a_run_folder_on_a_read_only_disk_is_refused_at_once(vectors, tiny_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(clipscan.RunError, match="run cannot be written: the file system is read-only"):
        scan_vectors(vectors, tiny_disk / "run")


@pytest.mark.parametrize("command", ["report", "export", "score"])
def test_what_writes_into_a_run_is_refused_while_another_works_in_it(vectors, tmp_path, command):
    scan_vectors(vectors, tmp_path / "run")
    words = {"export": ["--apart"], "score": ["--k", "4", "--reference", "30x2"]}.get(command, [])
    with RunFolder(tmp_path / "run").lock():
        done = subprocess.run(
            [sys.executable, "-P", "-m", "clipscan", command, str(tmp_path / "run"), *words],
            capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 1 and "another clipscan works in" in done.stderr
