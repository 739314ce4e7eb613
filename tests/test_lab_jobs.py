"""Jobs of the laboratory: workers leave with their parent, errands run to their end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipscan.errors import InputError
from clipscan.lab.grid.jobs import Failure, each


def asleep(path, _):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def gone(pid):
    """No such process, or one that only waits to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_leave_with_a_parent_that_is_killed(tmp_path):
    script = f"""if __name__ == "__main__":
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from clipscan.lab.grid.jobs import each
        from test_lab_jobs import asleep
        each({{"a": {str(tmp_path / "a")!r}, "b": {str(tmp_path / "b")!r}}}, asleep, 2, print)"""
    (tmp_path / "main.py").write_text(script)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "main.py"], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    told = [tmp_path / "a", tmp_path / "b"]
    wait_for(lambda: all(path.exists() and path.read_text() for path in told))
    parent.kill()
    parent.wait()
    wait_for(lambda: all(gone(path.read_text()) for path in told))


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def errand(number, say):
    say(f"number {number}")
    if number == 1:
        raise InputError("one is not served")
    if number == 2:
        os._exit(9)


@pytest.mark.parametrize("jobs", [1, 2])
def test_errands_run_to_their_end_whatever_becomes_of_the_others(jobs):
    said = []
    errands = {f"errand {number}": number for number in ((0, 1, 2) if jobs > 1 else (0, 1, 3))}
    failures = each(errands, errand, jobs, said.append)
    assert failures[0] == Failure("errand 1", "one is not served")
    if jobs > 1:
        assert [one.name for one in failures[1:]] == ["errand 2"] and "code 9" in failures[1].reason
    else:
        assert failures[1:] == [] and said[0] == "errand 0: number 0" and said[-1] == "errand 3: number 3"
