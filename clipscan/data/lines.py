"""Lines of a text file that may be hostile: bounded, undecodable bytes kept as surrogates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from clipscan.data.text import Unfit

MAX_LINE_BYTES = 4 << 20


class LineReader:
    """Iterates a binary stream as text lines and knows how many bytes it has handed out.

    Bytes that are not UTF-8 become surrogates, which the caption check later finds and names. A line
    longer than MAX_LINE_BYTES raises Unfit.
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
        return line.decode("utf-8-sig" if first else "utf-8", "surrogateescape")
