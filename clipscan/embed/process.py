"""One decoding process (pixels.py), driven through two pipes by one thread."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

from clipscan.embed import pixels
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import ClipscanError

START_SECONDS = 60.0
PIPE_BYTES = 1 << 20  # what Linux grants anybody; a pipe of the usual 64 kB holds half a picture of 224 px
HEAD = struct.Struct("<BI")
LONGEST_REASON = 4_096  # bytes; ours have at most 300 characters


class Died(Exception):
    """A decoder ended before it answered; `hung` when we ended it for being slow."""

    def __init__(self, how: str, hung: bool = False) -> None:
        super().__init__(how)
        self.hung = hung


class Decoder:
    """One decoding process, driven by one thread."""

    def __init__(self, time_limit: float) -> None:
        self.time_limit = time_limit
        # -P: a file of ours next to pixels.py must not pass for a library of the same name.
        self.process = subprocess.Popen(
            [sys.executable, "-P", pixels.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.requests, self.replies = self.process.stdin, self.process.stdout.fileno()
        _widen(self.replies)
        self.answered = select.poll()
        self.answered.register(self.replies, select.POLLIN)
        ready = bytearray(1)
        with contextlib.suppress(Died):
            self._fill(memoryview(ready), START_SECONDS)
        if ready != pixels.READY:
            self.process.kill()
            said = self.process.stderr.read().decode(errors="replace").strip()
            raise ClipscanError(f"a decoding process did not start: {said[-2000:] or 'it said nothing'}")

    def send(self, pictures: list[bytes], spec: PixelSpec) -> None:
        """Hand over a request; BrokenPipeError when the process is gone."""
        self.requests.write(pixels.request(pictures, spec))
        self.requests.flush()

    def receive(self, spec: PixelSpec) -> NDArray[np.uint8] | str:
        """The next picture's pixels [S, S, 3], or the reason why there are none; Died when nobody answers."""
        head = bytearray(HEAD.size)
        self._fill(memoryview(head), self.time_limit)
        bad, length = HEAD.unpack(head)
        if length > LONGEST_REASON if bad else length != spec.nbytes:
            raise Died("answered out of turn")
        payload = np.empty(length, np.uint8)
        self._fill(payload.data, self.time_limit)
        return payload.tobytes().decode(errors="replace") if bad else payload.reshape(spec.size, spec.size, 3)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _fill(self, room: memoryview, seconds: float) -> None:
        """Read until there is no more room."""
        deadline = time.monotonic() + seconds
        while room:
            if not self.answered.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self.process.kill()
                raise Died(f"took longer than {seconds:g} s", hung=True)
            if not (count := os.readv(self.replies, [room])):
                raise Died(_ending(self.process.wait()))
            room = room[count:]


def _widen(pipe: int) -> None:
    """Let a decoder run PIPE_BYTES ahead of its reader, which waits for Python's lock again and again."""
    with contextlib.suppress(AttributeError, OSError):  # not Linux; beyond what this user may have
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _ending(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
