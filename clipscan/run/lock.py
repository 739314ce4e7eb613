"""One process at a time in a run folder: flock, or numbered files where the file system has no flock.

Numbered files: RUN/.owner.7 names the process that holds the folder; the highest number counts. A process
that finds the folder free, or its owner dead, creates the next number, which only one process can do
(O_EXCL), and removes the lower ones. The highest is never removed, only marked free, so that a slow process
cannot create a number that was used before.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipscan.data.atomic import refusals
from clipscan.errors import RunError

HELD = (errno.EWOULDBLOCK, errno.EAGAIN)  # all else that flock raises: it cannot serve here
BEAT_SECONDS = 20.0  # between two signs of life of an owner
SILENT_SECONDS = 300.0  # after which an owner that cannot be looked up counts as dead; clocks need not agree
OWNER = re.compile(r"\.owner\.(\d+)")

log = logging.getLogger("clipscan")
_said: set[str] = set()


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Inside, no other process holds `folder`. RunError where one does, or where nothing can be written."""
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with refusals(folder / ".lock"):
        file = (folder / ".lock").open("w")
    with file:
        if (why := _flock(file.fileno(), folder)) is None:
            yield
            return
        if why not in _said:
            _said.add(why)
            log.warning("no flock in %s (%s): files named .owner.N lock it instead", folder, why)
        with _owned(folder):
            yield


def _flock(descriptor: int, folder: Path) -> str | None:
    """None once the lock is held, else why there is no such lock here. RunError where another has it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return "this system has none"
    except OSError as error:
        if error.errno in HELD:
            raise RunError(f"another clipscan works in {folder}; wait for it or use another --out") from error
        return os.strerror(error.errno or 0)
    return None


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    with refusals(folder / ".owner"):
        mine = _take(folder)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(mine, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        with contextlib.suppress(OSError):
            mine.write_text('{"free": true}', encoding="utf-8")


def _take(folder: Path) -> Path:
    """The owner file of this process. RunError where another process, which lives, holds the folder."""
    highest = max(_numbers(folder), default=0)
    if highest:
        _refuse_living(folder, highest)
    mine = folder / f".owner.{highest + 1}"
    try:
        with mine.open("x", encoding="utf-8") as file:
            file.write(json.dumps(_self()))
    except FileExistsError as error:
        raise RunError(f"another clipscan has just begun in {folder}; wait for it") from error
    if max(found := _numbers(folder), default=0) > highest + 1:
        mine.unlink(missing_ok=True)
        raise RunError(f"another clipscan has just begun in {folder}; wait for it")
    for number in found:
        if number <= highest:
            (folder / f".owner.{number}").unlink(missing_ok=True)
    return mine


def _numbers(folder: Path) -> list[int]:
    return [int(match[1]) for name in os.listdir(folder) if (match := OWNER.fullmatch(name))]


def _refuse_living(folder: Path, number: int) -> None:
    path = folder / f".owner.{number}"
    try:
        silent = max(_now(folder) - path.stat().st_mtime, 0)
        owner = _owner(path)
    except FileNotFoundError:  # a higher one was created: the next number is not the highest
        return
    known = _looked_up(owner)
    alive = known and _started(owner["pid"]) == owner.get("started")
    if owner.get("free") or (not alive if known else silent > SILENT_SECONDS):
        return
    raise RunError(
        f"another clipscan works in {folder}: process {owner.get('pid', '?')} on {owner.get('host', '?')}, "
        f"last sign of life {silent:.0f} s ago. Wait for it or use another --out; if you know that it is "
        f"gone, remove {path}, or wait until it was silent for {SILENT_SECONDS:.0f} s"
    )


def _self() -> dict[str, Any]:
    """This process, as others can look it up: where its number means something, and since when it is so."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


def _owner(path: Path) -> dict[str, Any]:
    """What an owner's file says; nothing while it is being written, or where a crash cut it off."""
    try:
        said = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _looked_up(owner: dict[str, Any]) -> bool:
    """Whether the processes of the owner's machine (and container) are visible to this process."""
    here = owner.get("boot") is not None and isinstance(owner.get("pid"), int)
    return here and (owner.get("host"), owner["boot"]) == (socket.gethostname(), _boot())


def _boot() -> str | None:
    """Which boot of a kernel, and which container on it; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process began, in clock ticks since boot; None where there is none of this number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")


def _now(folder: Path) -> float:
    """The time by the file system's own clock, which stamps the owner's file too."""
    (folder / ".lock").touch()
    return (folder / ".lock").stat().st_mtime


def _beat(mine: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(mine)
