"""One process at a time in a run folder, with flock and where there is none."""

import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
import time

import pytest

from clipscan.errors import RunError
from clipscan.run import RunFolder, lock

WITHOUT_FLOCK = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO, errno.EACCES]
HOLD = """
import errno, fcntl, sys
from pathlib import Path
from clipscan.run.lock import exclusive

def refuse(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

if sys.argv[2] == "without":
    fcntl.flock = refuse
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
RACE = """
import errno, fcntl, os, sys, time
from pathlib import Path
from clipscan.errors import RunError
from clipscan.run.lock import exclusive

def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")

fcntl.flock = refuse
folder, until = Path(sys.argv[1]), time.monotonic() + 2
while time.monotonic() < until:
    try:
        with exclusive(folder):
            os.mkdir(folder / "inside")  # fails where another process is inside
            os.rmdir(folder / "inside")
            print("in")
    except RunError:
        pass
"""


@pytest.fixture
def no_flock(monkeypatch):
    """A file system whose flock fails with a number; ENOSYS unless told otherwise."""
    number = [errno.ENOSYS]

    def refuse(*_):
        raise OSError(number[0], os.strerror(number[0]))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return number


def holder(folder, flock):
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(folder), flock],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


def owners(folder):
    return sorted(path.name for path in folder.glob(".owner.*"))


def write_owner(folder, number=1, **changes):
    folder.mkdir(exist_ok=True)
    path = folder / f".owner.{number}"
    path.write_text(json.dumps(lock._self() | changes))
    return path


def silent_for(path, seconds):
    os.utime(path, (time.time() - seconds, time.time() - seconds))


@pytest.mark.parametrize("flock", ["with", "without"])
def test_a_second_process_is_refused_while_the_first_lives_and_not_after_its_death(tmp_path, flock, request):
    if flock == "without":
        request.getfixturevalue("no_flock")
    first = holder(tmp_path / "run", flock)
    for _ in range(2):
        with pytest.raises(RunError, match="another clipscan works in"), RunFolder(tmp_path / "run").lock():
            pass
    first.kill()
    first.wait()
    with RunFolder(tmp_path / "run").lock():
        pass
    last = holder(tmp_path / "run", flock)
    last.communicate("\n")
    assert last.returncode == 0
    with RunFolder(tmp_path / "run").lock():
        pass


@pytest.mark.parametrize("number", WITHOUT_FLOCK)
def test_a_file_system_without_flock_is_locked_otherwise_and_once_it_is_said_how(
    tmp_path, no_flock, number, caplog
):
    no_flock[0] = number
    lock._said.clear()
    caplog.set_level(logging.WARNING, "clipscan")
    for _ in range(3):
        refused = pytest.raises(RunError, match=f"process {os.getpid()} on")
        with RunFolder(tmp_path / "run").lock(), refused, RunFolder(tmp_path / "run").lock():
            pass
    assert len(caplog.messages) == 1 and os.strerror(number) in caplog.messages[0]
    assert ".owner" in caplog.messages[0] and len(owners(tmp_path / "run")) == 1


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EAGAIN])
def test_only_a_lock_that_would_block_means_held(tmp_path, no_flock, number):
    no_flock[0] = number
    with pytest.raises(RunError, match="another clipscan works in"), RunFolder(tmp_path / "run").lock():
        pass
    assert not owners(tmp_path / "run")


def test_of_processes_that_compete_one_at_a_time_is_inside(tmp_path):
    command = [sys.executable, "-P", "-c", RACE, str(tmp_path)]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    times_inside = [process.communicate()[0].count("in") for process in racing]
    assert [process.returncode for process in racing] == [0, 0, 0], "two were inside at once"
    assert sum(times_inside) >= 3 and len(owners(tmp_path)) == 1


def test_a_number_that_another_process_has_by_now_is_no_sign_of_life(tmp_path, no_flock):
    write_owner(tmp_path / "run", started="1")
    with RunFolder(tmp_path / "run").lock():
        assert owners(tmp_path / "run") == [".owner.2"]


def test_a_process_that_lives_here_holds_the_folder_however_long_it_is_silent(tmp_path, no_flock):
    silent_for(write_owner(tmp_path / "run"), 10 * lock.SILENT_SECONDS)
    with pytest.raises(RunError, match="another clipscan works in"), RunFolder(tmp_path / "run").lock():
        pass


def test_an_owner_on_another_machine_counts_as_dead_once_it_is_silent(tmp_path, no_flock):
    path = write_owner(tmp_path / "run", host="elsewhere", pid=1)
    named = pytest.raises(RunError, match=r"process 1 on elsewhere.*remove .*\.owner\.1")
    with named, RunFolder(tmp_path / "run").lock():
        pass
    silent_for(path, lock.SILENT_SECONDS + 60)
    with RunFolder(tmp_path / "run").lock():
        pass


def test_removing_the_file_as_the_message_says_frees_the_folder(tmp_path, no_flock):
    write_owner(tmp_path / "run", host="elsewhere").unlink()
    with RunFolder(tmp_path / "run").lock():
        pass


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": "x"}'])
def test_an_owner_file_cut_off_by_a_crash_locks_for_a_while_only(tmp_path, no_flock, text):
    path = write_owner(tmp_path / "run")
    path.write_text(text)
    with pytest.raises(RunError, match="another clipscan"), RunFolder(tmp_path / "run").lock():
        pass
    silent_for(path, lock.SILENT_SECONDS + 60)
    with RunFolder(tmp_path / "run").lock():
        pass


def test_an_owner_shows_that_it_lives(tmp_path, no_flock, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with RunFolder(tmp_path / "run").lock():
        path = tmp_path / "run" / ".owner.1"
        silent_for(path, 1000)
        began = time.monotonic()
        while path.stat().st_mtime < time.time() - 500 and time.monotonic() - began < 60:
            time.sleep(0.01)
        assert path.stat().st_mtime > time.time() - 500


def test_a_slow_process_cannot_make_a_number_that_had_its_turn(tmp_path, no_flock, monkeypatch):
    folder = tmp_path / "run"
    write_owner(folder, 1, free=True)
    real = lock._refuse_living

    def slow(*args):  # between its look and its own file another process came, worked and went, twice
        real(*args)
        (folder / ".owner.1").unlink()
        write_owner(folder, 3)

    monkeypatch.setattr(lock, "_refuse_living", slow)
    with pytest.raises(RunError, match="has just begun"), RunFolder(folder).lock():
        pass
    assert owners(folder) == [".owner.3"]


def test_what_killed_processes_were_writing_is_swept_by_the_next_one(tmp_path):
    draft = tmp_path / "run/scores/.scores_00000.parquet.77.part"
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"half")
    with RunFolder(tmp_path / "run").lock():
        assert not draft.exists()


def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="is a file, not a folder"), RunFolder(tmp_path / "file/run").lock():
        pass
