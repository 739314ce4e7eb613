"""metadata.csv, .jsonl and .parquet in a folder of pictures: their rows, and the pictures that these name."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from typing import Any

from clipscan.data.csv_rows import Row, only_one, parse, read_header
from clipscan.data.extensions import Rules
from clipscan.data.folder_layout import Entry, FolderLayout
from clipscan.data.lines import LineReader
from clipscan.data.parquet_columns import known_columns
from clipscan.data.parquet_files import open_parquet_file, table_rows
from clipscan.data.pictures import inside
from clipscan.data.text import Unfit, first_field, json_object, printable, shown_fields
from clipscan.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_FIELDS = ("file_name", "filename", "image_file_name", "image", "path")
METADATA_ROWS = 1_024  # of parquet, read at once


def metadata_entries(layout: FolderLayout, name: str) -> Iterator[Entry]:
    """The rows of one metadata file; their file names are relative to its folder."""
    try:
        yield from (_entry(layout, name, row) for row in metadata_rows(layout, name))
    except (Unfit, csv.Error, OSError, DataError) as error:
        where = printable(name)
        yield Entry("", None, f"cannot read {where}: {error}", where)


def _entry(layout: FolderLayout, name: str, row: Row) -> Entry:
    where = row_name(name, row)
    if isinstance(row.cells, Unfit):
        return Entry("", None, f"{where}: {row.cells}", where)
    wanted = first_field(row.cells, FILE_FIELDS)
    if not isinstance(wanted, str) or not wanted:
        fault = f"{where} names no file: it has {shown_fields(row.cells)}, and {FILE_FIELDS[0]} is wanted"
        return Entry("", None, fault, where)
    picture = _placed(layout.root, os.path.dirname(name), wanted)
    if os.path.isabs(picture) or picture.startswith(".."):
        try:
            inside(layout.root, picture, layout.roots)
        except Unfit as unfit:
            fault = f"{where} names {printable(wanted)!r}, outside its folder: refused ({unfit})"
            return Entry("", None, fault, where)
    return Entry(picture, row.cells, "", where)


def _placed(root: str, folder: str, name: str) -> str:
    """A metadata row's file name, relative to the root if it lies there; Windows' backslashes as slashes."""
    if "\\" in name and not os.path.lexists(os.path.join(root, folder, name)):
        name = name.replace("\\", "/")
    path = os.path.normpath(os.path.join(root, folder, name))
    inside_root = path.startswith(os.path.join(root, ""))
    return os.path.relpath(path, root) if inside_root or not os.path.isabs(name) else path


def row_name(name: str, row: Row) -> str:
    """What a metadata row is called in messages and, if it names no picture, in lists: its identity."""
    return f"{printable(name)}, row {row.at}"


def metadata_rows(layout: FolderLayout, name: str) -> Iterator[Row]:
    """The rows of a metadata file, numbered from 0; Unfit, OSError or DataError if it cannot be read (on)."""
    path = inside(layout.root, name, layout.roots)
    if name.endswith(".parquet"):
        yield from _parquet_rows(path, layout.rules)
        return
    with open(path, "rb") as stream:
        lines = LineReader(stream)
        if name.endswith(".csv"):
            header = read_header(lines, layout.quoting)
            columns = _as_known(header.columns, (*FILE_FIELDS, *layout.rules.fields))
            image = next((field for field in FILE_FIELDS if field in columns), "")
            yield from parse(lines, header._replace(columns=columns, image=image), 0)
        else:
            yield from _json_rows(lines)


def _json_rows(lines: LineReader) -> Iterator[Row]:
    """A row a line; blank lines are no rows."""
    at = start = 0
    for line in lines:
        if line.strip():
            cells: dict[str, Any] | Unfit
            try:
                cells = json_object(line, "the line")
            except Unfit as unfit:
                cells = unfit
            yield Row(at, cells, start, lines.position)
            at += 1
        start = lines.position


def _as_known(columns: list[str], known: Sequence[str]) -> list[str]:
    """The columns, known names spelt as they are known (not "File_Name"). Unfit where two have one name."""
    spelt = {name.lower(): name for name in reversed(known)}
    columns = [name if name in known else spelt.get(name.lower(), name) for name in columns]
    return [only_one(columns, name) if name in known else name for name in columns]


def _parquet_rows(path: str, rules: Rules) -> Iterator[Row]:
    with open_parquet_file(path) as table:
        columns = known_columns(table.schema_arrow, *FILE_FIELDS, *rules.fields)
        for at, cells in table_rows(table, columns, None, METADATA_ROWS):
            yield Row(at, cells, at, at + 1)
