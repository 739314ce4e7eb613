"""Small pictures for the page, decoded in a worker process that may crash or hang."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from clipscan.report.thumb_worker import ANSWER, REQUEST, SMALL

WORKER = Path(__file__).with_name("thumb_worker.py")
SECONDS = 20.0  # one picture at the pixel limit takes about 3 s on a slow core
MAX_ANSWER = 1 << 20  # a thumbnail has some kB; more is not one of ours


class Thumbnail(NamedTuple):
    """A picture as a data: URI, or why there is none. Sizes in pixels of the re-encoded picture."""

    uri: str = ""
    width: int = 0
    height: int = 0
    reason: str = ""

    @property
    def small(self) -> bool:
        """Shown larger, pixel for pixel."""
        return 0 < max(self.width, self.height) <= SMALL


class Thumbnailer:
    """One worker process, started when first needed and again after each crash. Use as a context."""

    def __init__(self, *, seconds: float = SECONDS, worker: Path = WORKER) -> None:
        self._seconds = seconds
        self._worker = worker
        self._process: subprocess.Popen[bytes] | None = None

    def make(self, data: bytes, side: int, quality: int = 0) -> Thumbnail:
        """A thumbnail of encoded `data`, longest side at most `side` pixels; quality: of WebP, 0 for PNG or
        JPEG. Never raises for the data."""
        process = self._running()
        alarm = threading.Timer(self._seconds, process.kill)
        alarm.start()
        try:
            status, answer = _ask(process, data, side, quality)
        except (OSError, EOFError):  # it died: of this picture, or of the alarm
            timed_out = not alarm.is_alive()
            self.close()
            took = f"decoding took over {self._seconds:g} s"
            return Thumbnail(reason=took if timed_out else "the decoder crashed on this picture")
        finally:
            alarm.cancel()
        if status:
            return Thumbnail(reason=answer.decode("utf-8", "replace")[:200])
        return _checked(answer)

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Thumbnailer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            # -P: the worker's folder stays off its import path, where our module names could hide others.
            command = [sys.executable, "-P", str(self._worker)]
            pipe = subprocess.PIPE
            paths = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            }  # where our Pillow is
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=paths
            )
        return self._process


def _ask(process: subprocess.Popen[bytes], data: bytes, side: int, quality: int) -> tuple[int, bytes]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(REQUEST.pack(side, quality, len(data)) + data)
    process.stdin.flush()
    status, size = ANSWER.unpack(_exactly(process, ANSWER.size))
    if size > MAX_ANSWER:
        raise EOFError("an answer that is none of ours")
    return status, _exactly(process, size)


def _exactly(process: subprocess.Popen[bytes], size: int) -> bytes:
    assert process.stdout is not None
    data = process.stdout.read(size)
    if len(data) < size:
        raise EOFError("the worker died")
    return data


def _checked(answer: bytes) -> Thumbnail:
    """The worker's bytes as a picture, after a check of signature and size."""
    for magic, kind, measure in _KINDS:
        if answer.startswith(magic) and (size := measure(answer)) is not None:
            return Thumbnail(f"data:{kind};base64,{base64.b64encode(answer).decode()}", *size)
    return Thumbnail(reason="the decoder answered with something else than a picture")


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the frame header: walks the segments before it."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in (0xC0, 0xC1, 0xC2):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """From the header of its one chunk, lossy or lossless."""
    if len(data) < 30 or data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        return width, height
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png", _png_size),
    (b"\xff\xd8\xff", "image/jpeg", _jpeg_size),
    (b"RIFF", "image/webp", _webp_size),
)
