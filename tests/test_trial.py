"""A GPU back-end is tried in a process of its own: what hangs, crashes or errs there is left out, no more."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from clipscan.engine import trial, verdicts
from clipscan.engine.trial import Verdict

FACTS = verdicts.facts("cuda", ["build 1", "GPU 7"])

# A back-end whose device does as it is told when rows are loaded; the CPU finds what it finds.
STAND_IN = """
import ctypes, os, signal, subprocess, sys, time
import numpy as np
from clipscan.engine import cpu
from clipscan.engine.limits import Counts, Limits
from clipscan.errors import BackendError, DeviceLost

class Engine:
    name, default_memory = "cuda:0", 1 << 30
    def least_memory(self, rows, k): return 0
    def load(self, rows, book):
        {does}
        self.n = rows.n
        return rows
    def first_of(self, loaded): return None
    def pairs(self, rows, a, b, k, limit_a, limit_b, memory, counts):
        return cpu.within(rows, k, 1, memory, counts), None

def engines(devices):
    {opens}
    return [Engine()]
{imports}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Writes a back-end and has it tried, with limits of `start` and `search` seconds."""

    def plant(does="pass", opens="pass", imports="", start=60.0, search=60.0):
        (tmp_path / "stand_in.py").write_text(STAND_IN.format(does=does, opens=opens, imports=imports))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(trial, "START_SECONDS", start)
        monkeypatch.setattr(trial, "SEARCH_SECONDS", search)
        return trial.run("stand_in", ["cuda:0"])

    return plant


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clipscan" / "trials"


def alive(pid):
    """Whether it runs; a zombie that its new parent has not buried yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition):
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_a_device_that_finds_what_the_cpu_finds_is_right(stand_in):
    assert stand_in() == Verdict(None)


def test_chatter_of_libraries_is_no_answer(stand_in):
    assert stand_in(does="print('right'); print('x' * 100000); sys.stderr.write('y' * 100000)") == Verdict(
        None
    )


HANGS = {
    "sleeps": "time.sleep(1e6)",
    "holds the lock of Python": "ctypes.PyDLL(None).sleep(1000000)",
    "blocks signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(1e6)",
}


@pytest.mark.parametrize("does", HANGS.values(), ids=HANGS)
def test_a_search_that_hangs_is_ended_and_remembered(stand_in, tmp_path, does):
    pid = tmp_path / "pid"
    verdict = stand_in(does=f"open({str(pid)!r}, 'w').write(str(os.getpid())); {does}", search=1)
    assert verdict.lasting and "its search of 900 sample rows gave no answer in 1 s" in verdict.reason
    assert wait_for(lambda: not alive(int(pid.read_text())))


def test_what_a_hanging_search_has_started_ends_with_it(stand_in, tmp_path):
    pid = tmp_path / "pid"
    compiler = f"open({str(pid)!r}, 'w').write(str(subprocess.Popen(['sleep', '1000']).pid))"
    assert "no answer" in stand_in(does=f"{compiler}; time.sleep(1e6)", search=1).reason
    assert wait_for(lambda: not alive(int(pid.read_text())))


def test_a_search_that_crashes_says_by_which_signal(stand_in):
    verdict = stand_in(does="sys.stderr.write('Xid 31\\n'); sys.stderr.flush(); os.kill(os.getpid(), 11)")
    assert verdict.lasting and "signal 11" in verdict.reason and "Xid 31" in verdict.reason


def test_a_search_that_somebody_ended_is_tried_again(stand_in):
    assert not stand_in(does="os.kill(os.getpid(), signal.SIGKILL)").lasting  # short of memory, say


def test_a_wrong_table_is_reported(stand_in):
    verdict = stand_in(does="rows.parts[0] = rows.parts[0] + np.float32(0.001)")
    assert verdict.lasting and "differs from the CPU's" in verdict.reason


def test_an_error_in_words_may_pass(stand_in):
    assert stand_in(does="raise BackendError('cuda:0: 7 bytes are free')") == Verdict(
        "cuda:0: 7 bytes are free", lasting=False
    )
    assert "an illegal memory access" in stand_in(does="raise DeviceLost('an illegal memory access')").reason


def test_an_exception_is_told_by_its_last_line(stand_in):
    verdict = stand_in(does="raise ZeroDivisionError('no rows')")
    assert "exit code 1" in verdict.reason and "ZeroDivisionError: no rows" in verdict.reason


def test_a_slow_start_is_no_hanging_search(stand_in):
    assert stand_in(imports="time.sleep(5)", search=4) == Verdict(None)
    verdict = stand_in(opens="time.sleep(1e6)", start=2)
    assert not verdict.lasting and "was not ready for a trial in 2 s" in verdict.reason


def test_a_crash_before_the_search_may_pass(stand_in):
    verdict = stand_in(imports="os.abort()")
    assert not verdict.lasting and "before" in verdict.reason and "signal 6" in verdict.reason


def test_without_a_python_to_start_there_is_no_trial(stand_in, monkeypatch):
    for executable in (None, "", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", executable)
        verdict = stand_in()
        assert not verdict.lasting and "no second Python starts here" in verdict.reason


def test_ctrl_c_ends_a_trial_and_its_process(tmp_path):
    pid = tmp_path / "pid"
    hang = f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(1e6)"
    (tmp_path / "stand_in.py").write_text(STAND_IN.format(does=hang, opens="pass", imports=""))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from clipscan.engine import trial; trial.run('stand_in', None)"
    )
    ours = subprocess.Popen([sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: pid.exists() and pid.read_text())
    ours.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in ours.communicate(timeout=60)[1]
    assert wait_for(lambda: not alive(int(pid.read_text())))


def test_a_trial_whose_parent_is_killed_ends_by_itself(tmp_path):
    hang = "print('it hangs', flush=True); ctypes.PyDLL(None).sleep(1000000)"
    (tmp_path / "stand_in.py").write_text(STAND_IN.format(does=hang, opens="pass", imports=""))
    code = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        from clipscan.engine import trial
        trial.START_SECONDS, trial.SEARCH_SECONDS = 2, 0.5
        trial.search('stand_in', None)
    """)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    assert "it hangs" in done.stdout and done.returncode == 1 and "Timeout" in done.stderr


def test_a_verdict_holds_for_what_it_was_found_on(cache):
    assert verdicts.read(FACTS) is None
    verdicts.keep(FACTS, Verdict("its search hangs"))
    assert verdicts.read(FACTS) == Verdict("its search hangs")
    for other in ({**FACTS, "driver": "581"}, {**FACTS, "clipscan": "9"}, {**FACTS, "part 1": "GPU 8"}):
        assert verdicts.read(other) is None
    verdicts.keep(FACTS, Verdict(None))
    assert verdicts.read(FACTS) == Verdict(None)
    assert [path.name for path in cache.iterdir()] == [verdicts.file_of(FACTS).name]  # no drafts


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff\xfe", b"null", b"[]", b'{"facts": {}, "reason": null}', b"[" * 100_000]
    + [json.dumps({"facts": FACTS, "reason": reason}).encode() for reason in (7, [], {})]
    + [json.dumps({"facts": FACTS}).encode()],
    ids=range(11),
)  # fmt: skip
def test_a_damaged_verdict_is_none_and_is_written_anew(cache, damage):
    verdicts.keep(FACTS, Verdict(None))
    verdicts.file_of(FACTS).write_bytes(damage)
    assert verdicts.read(FACTS) is None
    verdicts.keep(FACTS, Verdict("hangs"))
    assert verdicts.read(FACTS) == Verdict("hangs")


def test_a_cache_that_cannot_be_written_or_found_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    verdicts.keep(FACTS, Verdict(None))
    assert verdicts.read(FACTS) is None

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "folder"))
    verdicts.file_of(FACTS).mkdir(parents=True)  # a folder of that name
    verdicts.keep(FACTS, Verdict(None))
    assert verdicts.read(FACTS) is None
    assert os.listdir(verdicts.file_of(FACTS).parent) == [verdicts.file_of(FACTS).name]

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its standard
    monkeypatch.setenv("HOME", str(tmp_path))
    assert verdicts.file_of(FACTS).is_relative_to(tmp_path / ".cache")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(verdicts.Path, "home", homeless)
    verdicts.keep(FACTS, Verdict(None))
    assert verdicts.file_of(FACTS) is None and verdicts.read(FACTS) is None
