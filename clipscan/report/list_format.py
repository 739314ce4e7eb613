"""Sample names in text files: one `shard<TAB>key` a line, whatever the names contain.

The escape is that of a Python string literal without its quotes, so any reader can undo it:
`\\\\` backslash, `\\t` tab, `\\n` and `\\r` line ends, `\\xhh` / `\\uhhhh` any other control character or
line separator (and lone surrogates, which UTF-8 cannot hold). All other characters stand for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clipscan.errors import DataError

# C0, DEL, C1 and the two Unicode separators: everything that str.splitlines() or a terminal acts upon.
_SPECIAL = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(?:\\|t|n|r|x[0-9a-f]{2}|u[0-9a-f]{4})")
_SHORT = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_LONG = {short: char for char, short in _SHORT.items()}


def escape(name: str) -> str:
    """`name` on one line without tabs; `unescape` gives it back."""
    return _SPECIAL.sub(lambda found: _escape_one(found[0]), name)


def _escape_one(char: str) -> str:
    code = ord(char)
    return _SHORT.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def unescape(text: str) -> str:
    """The name that `escape` wrote. ValueError for a backslash that `escape` never writes."""
    if _ESCAPED.sub("", text).count("\\"):
        raise ValueError(f"{text!r} holds a backslash that begins no escape; write it as two")
    return _ESCAPED.sub(lambda found: _LONG.get(found[0]) or chr(int(found[0][2:], 16)), text)


def read_list(path: str | Path) -> Iterator[tuple[str, str]]:
    """The (shard, key) pairs of a keep.txt or drop.txt. DataError names the line that is none."""
    with Path(path).open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            cells = line.removesuffix("\n").split("\t")
            if len(cells) != 2:
                raise DataError(f"{path}, line {number}: expected shard<TAB>key, found {len(cells)} cells")
            try:
                yield unescape(cells[0]), unescape(cells[1])
            except ValueError as wrong:
                raise DataError(f"{path}, line {number}: {wrong}") from wrong
