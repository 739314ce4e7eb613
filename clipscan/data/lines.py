"""Lines of a text file that may be hostile: bounded, undecodable bytes kept as surrogates."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from clipscan.data.text import Unfit

MAX_LINE_BYTES = 4 << 20


class LineReader:
    """Iterates a binary stream as text lines and counts the bytes that it has handed out.

    Bytes that are not UTF-8 become surrogates, which the caption check later finds and names. A line
    longer than MAX_LINE_BYTES raises Unfit, and so does a file that begins as UTF-16 or UTF-32, or whose
    lines end in a carriage return alone, which would be one line.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.position = stream.tell()  # of the next line

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MAX_LINE_BYTES)
        if not line:
            raise StopIteration
        if len(line) == MAX_LINE_BYTES:
            raise Unfit(f"a line has more than {MAX_LINE_BYTES:,} bytes")
        first, self.position = self.position == 0, self.position + len(line)
        if first and (wide := _wide(line)):
            raise Unfit(f"it is {wide}, not UTF-8; save it anew, or: iconv -f {wide} -t UTF-8 OLD > NEW")
        if first and b"\r" in line.rstrip(b"\r\n"):
            raise Unfit("its lines end in CR alone; save it anew, or: tr '\\r' '\\n' < OLD > NEW")
        return line.decode("utf-8-sig" if first else "utf-8", "surrogateescape")


def _wide(line: bytes) -> str:
    """UTF-16 or UTF-32 by the mark that a file begins with, or by zeros beside its first characters."""
    if line.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    zeros = [at for at, byte in enumerate(line[:4]) if byte == 0]
    return "UTF-16LE" if zeros == [1, 3] else "UTF-16BE" if zeros == [0, 2] else ""
