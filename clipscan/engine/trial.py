"""A GPU back-end is tried before it is relied on: a small search, whose table the CPU knows bit for bit.

It runs in a process of its own, since kernels that are wrong may hang, or take their process with them. That
process is started anew, never forked: what CUDA holds does not survive a fork.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, NamedTuple

import numpy as np

from clipscan.engine import cpu
from clipscan.engine.arrays import Rows
from clipscan.engine.devices import Devices
from clipscan.engine.limits import Counts
from clipscan.errors import BackendError, DeviceLost

START_SECONDS = 120.0  # until the search begins: torch takes a minute to import from a cold network disk
SEARCH_SECONDS = 60.0  # for the search; it takes milliseconds, and Triton compiles its kernels first
END_SECONDS = 5.0  # for a killed process to be gone; one that the driver does not let go is left behind
SAMPLE_ROWS, SAMPLE_WIDTH = 900, 200
A_SEARCH = f"search of {SAMPLE_ROWS} sample rows"

MARK = "clipscan trial: "  # of the lines that are ours; libraries print others
BEGUN, RIGHT, WRONG, REFUSED = "begun", "right", "wrong", "refused "
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # no fault of its own


class Verdict(NamedTuple):
    """reason: why the back-end is not to be relied on, None where it is right. lasting: the same kernels on
    the same device would do the same again."""

    reason: str | None
    lasting: bool = True


def run(module: str, devices: Sequence[str] | None) -> Verdict:
    """What becomes of a search by the back-end `module` on these devices (None: all), in another process."""
    try:
        with tempfile.TemporaryFile() as chat:
            child = _start(module, devices, chat)
            try:
                return _heard(child, chat)
            finally:  # after Ctrl-C as well
                _end(child)
    except OSError as error:
        return Verdict(f"it cannot be tried, since no second Python starts here: {error}", lasting=False)


def search(module: str, devices: Sequence[str] | None) -> None:
    """The other process: says how far it is."""
    # Should whoever started this be gone, nobody else ends a search that hangs.
    faulthandler.dump_traceback_later(START_SECONDS + 2 * SEARCH_SECONDS, exit=True)
    try:
        engines = importlib.import_module(module).engines(devices)
        rows, k = _sample(), 5
        right = cpu.within(rows, k, 1, 1 << 30, Counts())
        _say(BEGUN)
        found = Devices(engines, segment_rows=1).within(rows, k, 1, None, Counts())
        same = all(np.array_equal(a, b) for a, b in zip(found, right, strict=True))
        _say(RIGHT if same else WRONG)
    except (DeviceLost, BackendError) as error:
        _say(REFUSED + " ".join(str(error).split()))
    os._exit(0)  # nothing is torn down: that may hang too


def _sample() -> Rows:
    x = np.random.default_rng(0).standard_normal((SAMPLE_ROWS, SAMPLE_WIDTH)).astype(np.float32)
    x[::7] = x[3]  # copies
    return Rows([x], "sample")


def _say(words: str) -> None:
    print(f"\n{MARK}{words}", flush=True)


def _start(module: str, devices: Sequence[str] | None, chat: IO[bytes]) -> subprocess.Popen[str]:
    code = "import sys; from clipscan.engine import trial; trial.search(sys.argv[1], sys.argv[2:] or None)"
    # -P: the folder we stand in stays off the import path. A session of its own: compilers that the search
    # starts are ended with it.
    return subprocess.Popen(
        [sys.executable or "", "-P", "-c", code, module, *(devices or ())],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=chat, text=True, errors="replace",
        start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


def _heard(child: subprocess.Popen[str], chat: IO[bytes]) -> Verdict:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(child, lines), daemon=True).start()
    begun = False
    try:
        said = lines.get(timeout=START_SECONDS)
        if begun := said == BEGUN:
            said = lines.get(timeout=SEARCH_SECONDS)
    except queue.Empty:
        if not begun:
            return Verdict(f"it was not ready for a trial in {START_SECONDS:g} s", lasting=False)
        return Verdict(f"its {A_SEARCH} gave no answer in {SEARCH_SECONDS:g} s, and was ended")
    if said is None:
        return _ended(child, chat, begun)
    if said.startswith(REFUSED):  # in words: memory that others have taken, a device in use
        return Verdict(said.removeprefix(REFUSED), lasting=False)
    if said == RIGHT:
        return Verdict(None)
    return Verdict(
        f"its table of {SAMPLE_ROWS} sample rows differs from the CPU's; please report it with what "
        "clipscan doctor says"
    )


def _listen(child: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert child.stdout
    with child.stdout as output:
        for line in output:
            if line.startswith(MARK):
                lines.put(line.removeprefix(MARK).rstrip("\n"))
    lines.put(None)


def _ended(child: subprocess.Popen[str], chat: IO[bytes], begun: bool) -> Verdict:
    with suppress(subprocess.TimeoutExpired):
        child.wait(END_SECONDS)
    code = child.returncode or 0
    how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
    chat.seek(0)
    lines = chat.read().decode(errors="replace").strip().splitlines()
    last = f": {lines[-1].strip()[:300]}" if lines else ""
    where = f"in its {A_SEARCH}" if begun else "before its search began"
    lasting = begun and -code not in FROM_OUTSIDE
    return Verdict(f"its process ended {how} {where}{last}", lasting)


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        child.wait(END_SECONDS)
