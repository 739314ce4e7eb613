"""One decoding process (pixels.py), driven through two pipes by one thread; any thread may kill it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipscan.embed import pixels
from clipscan.embed.pixels import PixelSpec

START_SECONDS = 60.0
KILL_SECONDS = 5.0  # a killed process that waits for a dead disk stays; we do not wait for it
PIPE_BYTES = 1 << 20  # the default limit of Linux; a pipe of the usual 64 kB holds half a picture of 224 px
HEAD = struct.Struct("<BI")
PACKAGES = str(Path(__file__).parents[2])  # the folder that this clipscan lies in
LONGEST_REASON = 4_096  # bytes; ours have at most 300 characters


class Died(Exception):
    """A decoder ended before it answered; `hung` when we ended it for being slow."""

    def __init__(self, how: str, hung: bool = False) -> None:
        super().__init__(how)
        self.hung = hung


class Decoder:
    """One decoding process. It has just been started: wait_until_ready() before anything is sent.

    time_limit: seconds; at twice as many for one picture it ends itself, where it was not ended before.
    """

    def __init__(self, time_limit: float) -> None:
        # -P: a file of ours next to pixels.py must not pass for a library of the same name.
        # A process group of its own: Ctrl-C and Ctrl-Z are the parent's, which ends its decoders itself.
        self.process = subprocess.Popen(
            [sys.executable, "-P", pixels.__file__, str(2 * int(time_limit) + 1)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path(sys.path))}, process_group=0,
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.requests, self.replies = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self.requests, False)
        _widen(self.replies)
        self.heard, self.open = select.poll(), select.poll()
        self.heard.register(self.replies, select.POLLIN)
        self.open.register(self.requests, select.POLLOUT)

    def wait_until_ready(self) -> None:
        """Returns when it can take requests; Died, with what it said, when it cannot start."""
        ready = bytearray(1)
        try:
            self._fill(memoryview(ready), time.monotonic() + START_SECONDS)
        except TimeoutError:
            raise self._too_slow(f"said nothing for {START_SECONDS:g} s") from None
        except Died as death:
            raise Died(self._last_words() or str(death)) from None
        if ready != pixels.READY:
            raise Died("answered out of turn")

    def send(self, pictures: list[bytes], spec: PixelSpec, seconds: float) -> None:
        """Hand over a request; Died when none of it is taken for so long."""
        left = memoryview(pixels.request(pictures, spec))
        while left:
            if not self.open.poll(seconds * 1000):
                raise self._too_slow(f"took no picture for {seconds:g} s")
            try:
                left = left[os.write(self.requests, left) :]
            except BrokenPipeError:
                raise Died(self._ending()) from None

    def receive(self, spec: PixelSpec, seconds: float) -> NDArray[np.uint8] | str:
        """The next picture's pixels [S, S, 3], or why there are none; Died when no answer comes."""
        deadline = time.monotonic() + seconds
        head = bytearray(HEAD.size)
        try:
            self._fill(memoryview(head), deadline)
            bad, length = HEAD.unpack(head)
            if length > LONGEST_REASON if bad else length != spec.nbytes:
                raise Died("answered out of turn")
            payload = np.empty(length, np.uint8)
            self._fill(payload.data, deadline)
        except TimeoutError:
            raise self._too_slow(f"took longer than {seconds:g} s") from None
        return payload.tobytes().decode(errors="replace") if bad else payload.reshape(spec.size, spec.size, 3)

    def kill(self) -> None:
        """End it now. A waiting receive() raises Died."""
        self.process.kill()

    def close(self) -> None:
        """End it and give back what it held."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=KILL_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _fill(self, room: memoryview, deadline: float) -> None:
        """Read until there is no more room; TimeoutError at the deadline."""
        while room:
            if not self.heard.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            if not (count := os.readv(self.replies, [room])):
                raise Died(self._ending())
            room = room[count:]

    def _too_slow(self, how: str) -> Died:
        self.kill()
        return Died(how, hung=True)

    def _ending(self) -> str:
        try:
            code = self.process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.communicate(timeout=KILL_SECONDS)[1].decode(errors="replace").strip()[-2000:]
        return ""


def search_path(ours: list[str]) -> list[str]:
    """Where a decoder looks for modules, given where we do: it must find this very clipscan, also where we
    found it in the working directory (""), which a decoder does not search."""
    named = [place for place in ours if place]
    return named if PACKAGES in named else [PACKAGES, *named]


def _widen(pipe: int) -> None:
    """Let a decoder run PIPE_BYTES ahead of its reader, which waits for Python's lock again and again."""
    with contextlib.suppress(AttributeError, OSError):  # not Linux; beyond what this user may have
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
