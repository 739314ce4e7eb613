"""Errands, one by one or several at a time; one that fails is remembered and does not stop the rest."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from clipscan.errors import ClipscanError

Say = Callable[[str], None]
Do = Callable[[Any, Say], None]


class Failure(NamedTuple):
    """An errand that did not come to its end, and why."""

    name: str
    reason: str


def each(errands: Mapping[str, Any], do: Do, jobs: int, say: Say) -> list[Failure]:
    """do(errand, say) for all of them, what it says opened by its name; the failures, in the order of the
    errands.

    jobs > 1: so many at a time, each in a fresh process, so that one which is killed takes none with it;
    `do` must then be a function of a module, and what it says is printed. An interrupt ends them all.
    """
    if jobs == 1:
        reasons = {name: _done(do, errand, name, say) for name, errand in errands.items()}
    else:
        reasons = _parallel(errands, do, jobs)
    return [Failure(name, reason) for name in errands if (reason := reasons[name])]


def _done(do: Do, errand: Any, name: str, say: Say) -> str:
    """Nothing when all went well, else the reason; a traceback too where clipscan did not raise it itself."""
    try:
        do(errand, lambda line: say(f"{name}: {line}"))
    except Exception as error:
        if not isinstance(error, ClipscanError):
            traceback.print_exc()
        say(f"{name}: FAILED: {error}")
        return f"{error}" if isinstance(error, ClipscanError) else f"{type(error).__name__}: {error}"
    return ""


def _parallel(errands: Mapping[str, Any], do: Do, jobs: int) -> dict[str, str]:
    fresh = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
    waiting, running = list(errands.items()), dict[Any, tuple[str, BaseProcess, Connection]]()
    reasons: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name, errand = waiting.pop(0)
                ours, theirs = fresh.Pipe(duplex=False)
                process: BaseProcess = fresh.Process(target=_child, args=(do, errand, name, theirs))
                process.start()
                theirs.close()  # so that its end is seen here when the process is gone
                running[process.sentinel] = (name, process, ours)
            for sentinel in wait(list(running)):
                name, process, ours = running.pop(sentinel)
                reasons[name] = _ended(process, ours)
    finally:
        for _, left, _ in running.values():
            left.terminate()
            left.join()
    return reasons


def _child(do: Do, errand: Any, name: str, told: Connection) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    told.send(_done(do, errand, name, lambda line: print(line, flush=True)))


def _leave_with_parent() -> None:
    """End with the parent, also if that is killed: the next run must not find this worker at the same
    cell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _ended(process: BaseProcess, told: Connection) -> str:
    process.join()
    try:
        reason: str = told.recv()
    except EOFError:
        return f"its process ended with code {process.exitcode}; memory may have been short: use fewer --jobs"
    return reason
