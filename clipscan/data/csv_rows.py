"""Rows of a CSV that strangers wrote: a quote left open costs its own line, not those after it."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from clipscan.data.inventory import extension
from clipscan.data.lines import LineReader
from clipscan.data.pictures import IMAGE_EXTENSIONS
from clipscan.data.text import Unfit

MAX_ROW_LINES = 32  # of one row; a text encoder reads 77 tokens, which fit on fewer
QUOTING = ("csv", "none")  # quotes may hold separators and line ends (RFC 4180); quotes are plain characters
SEPARATORS = ",\t;|"


class Header(NamedTuple):
    """How a table is read."""

    columns: list[str]
    separator: str
    image: str
    text: str
    quoting: str = QUOTING[0]


class Row(NamedTuple):
    """One row as parsed; its bytes in the file are [start, end), its first line is `line` (from 1)."""

    at: int
    cells: dict[str, Any] | Unfit
    start: int
    end: int
    line: int = 0


def parse(lines: LineReader, header: Header, first: int, line: int = 2) -> Iterator[Row]:
    """Rows from where `lines` stands, numbered from `first`, lines from `line`; blank lines are no rows.

    A row of more than MAX_ROW_LINES, or whose quote is closed wrongly, or in whose cells a line would be a
    row itself, is Unfit and ends with its first line; the next line is the next row. One with more cells than
    the header is Unfit: its caption may go on in them.
    """
    feed = _Feed(lines, line)
    at = first
    while True:
        start, line = feed.position, feed.line
        try:
            values = next(_reader(feed, header))
            fault = _fault(values, feed.taken, header, line)
        except StopIteration:
            return
        except csv.Error as error:
            values, fault = [""], f"row {at} (line {line}) is not valid csv: {error}"
        except Unfit as unfit:  # a line without end: the table is lost from here
            yield Row(at, Unfit(f"row {at} (line {line}): {unfit}"), start, start, line)
            return
        feed.done(1 if fault else len(feed.taken))
        if values:
            fault = fault or _surplus(values, header, f"row {at} (line {line})")
            cells = Unfit(fault) if fault else dict(zip(header.columns, values, strict=False))
            yield Row(at, cells, start, feed.position, line)
            at += 1


def read_header(lines: LineReader, quoting: str, separator: str = "") -> Header:
    """The names in a table's first line, white space at their ends removed, and what separates them ("":
    whichever of SEPARATORS is there most often). Unfit if it names nothing, or does not end with the line."""
    line = next(lines, "")
    header = Header([], separator or max(SEPARATORS, key=line.count), "", "", quoting)
    try:
        cells = next(_reader(iter([line]), header, strict=True), [])
    except csv.Error as error:
        raise Unfit(f"its first line, which names the columns, is not valid csv: {error}") from None
    columns = [cell.strip() for cell in cells]
    if not any(columns):
        raise Unfit("its first line is empty; it has to name the columns, such as: filepath,title")
    return header._replace(columns=columns)


def only_one(columns: list[str], name: str) -> str:
    """The name; Unfit where two columns have it, of which readers take one or the other."""
    if columns.count(name) > 1:
        raise Unfit(f"it has {columns.count(name)} columns {name!r}; rename those that are not meant")
    return name


class _Feed:
    """Lines for a csv.reader, a few more than a row may have; it says which ones it was given."""

    def __init__(self, lines: LineReader, line: int) -> None:
        self._lines = lines
        self._ahead: deque[tuple[str, int]] = deque()  # lines given back, and where each ends
        self.taken: list[tuple[str, int]] = []
        self.position = lines.position  # of the first line taken, or the next one
        self.line = line

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) > MAX_ROW_LINES:
            raise StopIteration
        self.taken.append(self._ahead.popleft() if self._ahead else (next(self._lines), self._lines.position))
        return self.taken[-1][0]

    def done(self, count: int) -> None:
        """The first `count` lines taken were a row; the others are given back."""
        self.position = self.taken[count - 1][1]
        self.line += count
        self._ahead.extendleft(reversed(self.taken[count:]))
        self.taken = []


def _reader(lines: Iterator[str], header: Header, strict: bool = False) -> Iterator[list[str]]:
    if header.quoting == "none":
        return csv.reader(lines, delimiter=header.separator, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=header.separator, strict=strict)


def _surplus(values: list[str], header: Header, where: str) -> str:
    """Why a row with more cells than the header is none, "" where nothing stands in them."""
    if not any(cell.strip() for cell in values[len(header.columns) :]):
        return ""
    return (
        f"{where} has {len(values)} cells, the header {len(header.columns)}: a caption that holds "
        f"{header.separator!r} has to stand in quotes"
    )


def _fault(values: list[str], taken: list[tuple[str, int]], header: Header, line: int) -> str:
    """Why a row of several lines is none, "" if it is one."""
    if len(taken) == 1:
        return ""
    reason = _unclosed(values, [text for text, _ in taken], header)
    return reason and (
        f"line {line} opens a quote that {reason}; lines {line} to {line + len(taken) - 1} would be one row. "
        f"Line {line} is left out, the others are read by themselves; --quoting none takes quotes as they are"
    )


def _unclosed(values: list[str], lines: list[str], header: Header) -> str:
    if len(lines) > MAX_ROW_LINES:
        return f"is not closed within {MAX_ROW_LINES} lines"
    if any(_names_a_picture(line, header) for value in values for line in value.split("\n")[1:]):
        return "holds a line that names a picture itself"
    try:
        next(_reader(iter(lines), header, strict=True))
    except csv.Error as error:
        return f"is not closed as it should be ({error})"
    return ""


def _names_a_picture(line: str, header: Header) -> bool:
    """Would the line be a row: several cells, and a picture's file name where it belongs?"""
    if header.separator not in line or header.image not in header.columns:
        return False
    cells = line.split(header.separator)
    at = header.columns.index(header.image)
    return len(cells) > max(at, 1) and extension(cells[at].strip(' "')) in IMAGE_EXTENSIONS
