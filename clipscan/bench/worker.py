"""One peer in one process, so that thread pools and memory are its own: JSON lines over stdin and stdout.

First  driver: {rows, threads, cases, k}   worker: {version, cases}, or {missing: reason}
then   driver: {case, k, keep}             worker: {wall, cpu, counts}; until stdin closes
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Row = dict[str, Any]
Command = list[str]  # starts a process that calls serve()

ITSELF: Command = [sys.executable, "-P", "-m", "clipscan.bench"]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
WARM = 2_000  # rows of the first, uncounted call: starts thread pools, compiles what compiles late


@dataclass(frozen=True)
class Peer:
    """A library under test.

    cases: name -> call(x [n, d] float32, k), giving index [n, k] for "knn" and scores [n] for "lof".
    count(x, k): what one more, untimed search says of itself.
    """

    version: str
    cases: dict[str, Callable[[Array, int], Array]]
    count: Callable[[Array, int], Row] | None = None


def measure(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """(wall seconds, CPU-seconds of all threads, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def resident(process: int | str) -> float:
    """Anonymous resident memory of a process in bytes; NaN where the system does not say (Linux does)."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return float("nan")
    kilobytes = status.partition("RssAnon:")[2].split()
    return int(kilobytes[0]) << 10 if kilobytes else float("nan")


class Watch(threading.Thread):
    """The largest resident() of a process during a `with` block, looked at every 20 ms and at the end.

    From outside where it can be: a library that keeps Python's lock would stop a watch within its process.
    """

    def __init__(self, process: int | str = "self") -> None:
        super().__init__(daemon=True)
        self.process, self.over = process, threading.Event()

    def __enter__(self) -> Watch:
        self.before = self.peak = resident(self.process)
        self.start()
        return self

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.peak = max(self.peak, resident(self.process))

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()
        self.peak = max(self.peak, resident(self.process))

    @property
    def beyond(self) -> float:
        """Bytes beyond what was resident before."""
        return self.peak - self.before


def serve(load: Callable[[int], Peer]) -> None:
    """The worker's life. What a library prints goes to stderr: stdout carries the protocol alone."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.readline())
    try:
        peer = load(asked["threads"])
    except ImportError as missing:
        print(json.dumps({"missing": str(missing)}), file=answers)
        return
    x = np.load(asked["rows"])
    warm = x[:WARM]
    for case in set(peer.cases) & set(asked["cases"]):
        peer.cases[case](warm, min(asked["k"], len(warm) - 1))
    _trim()
    print(json.dumps({"version": peer.version, "cases": list(peer.cases)}), file=answers)
    for line in sys.stdin:
        done = _run(peer, x, **json.loads(line))
        _trim()
        print(json.dumps(done), file=answers)


def _run(peer: Peer, x: Array, case: str, k: int, keep: str | None) -> Row:
    """One counted run; keep: the file for its result, which is then also explained by peer.count."""
    wall, cpu, result = measure(lambda: peer.cases[case](x, k))
    counts = {}
    if keep:
        np.save(keep, result)
        del result  # the watch is still looking
        counts = peer.count(x, k) if peer.count and case == "knn" else {}
    return {"wall": wall, "cpu": cpu, "counts": counts}


def _trim() -> None:
    """What is no longer needed goes back to the system (glibc), else the next run takes it again unseen."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class Lost(Exception):
    """A worker is not there, and why."""


class Worker:
    """The driver's end of a process that serves one peer."""

    def __init__(self, name: str, command: Command, threads: int) -> None:
        self.name, self.version = name, ""
        self.cases: list[str] = []
        environment = os.environ | dict.fromkeys(THREADS, str(threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )

    def load(self, **asked: Any) -> None:
        """Waits until the peer is warm; raises Lost where it cannot be."""
        ready = self.ask(**asked)
        if "missing" in ready:
            raise Lost(f"not installed ({ready['missing']})")
        self.version, self.cases = ready["version"], ready["cases"]

    def run(self, case: str, k: int, keep: str | None) -> Row:
        """One counted run: wall and CPU seconds, counts, memory in MB beyond what the worker held before."""
        with Watch(self.process.pid) as watch:
            done = self.ask(case=case, k=k, keep=keep)
        return {**done, "memory_mb": watch.beyond / 1e6}

    def ask(self, **request: Any) -> Row:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Lost(f"its process ended with code {self.process.wait()}, see above")
        answer: Row = json.loads(line)
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()
