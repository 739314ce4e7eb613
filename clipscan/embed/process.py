"""One decoding process (pixels.py), driven through two pipes by one thread."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time

from clipscan.embed import pixels
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import ClipscanError

START_SECONDS = 60.0


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
        self.buffer = bytearray()
        try:
            ready = self._read(1, START_SECONDS)
        except Died:
            ready = b""
        if ready != pixels.READY:
            self.process.kill()
            said = self.process.stderr.read().decode(errors="replace").strip()
            raise ClipscanError(f"a decoding process did not start: {said[-2000:] or 'it said nothing'}")

    def send(self, pictures: list[bytes], spec: PixelSpec) -> None:
        """Hand over a request; BrokenPipeError when the process is gone."""
        self.requests.write(pixels.request(pictures, spec))
        self.requests.flush()

    def receive(self) -> bytes | str:
        """The next picture's pixels, or the reason why there are none; Died when nobody answers."""
        bad, length = struct.unpack("<BI", self._read(5, self.time_limit))
        payload = self._read(length, self.time_limit)
        return payload.decode(errors="replace") if bad else payload

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _read(self, count: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while len(self.buffer) < count:
            if not select.select([self.replies], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.process.kill()
                raise Died(f"took longer than {seconds:g} s", hung=True)
            if not (part := os.read(self.replies, 1 << 20)):
                raise Died(_ending(self.process.wait()))
            self.buffer += part
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data


def _ending(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
