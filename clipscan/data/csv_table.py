"""CSV and TSV tables of picture files and captions, as `open_clip --dataset-type csv` reads them.

Pictures lie in or below the table's folder and are named relative to it (or absolutely, inside it).
Several rows may name one picture. Tables are scanned once when opened, to cut them into shards and to
know where each begins.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from clipscan.data.dataset import Dataset, Record, RowKeys, Shard, slices, stem
from clipscan.data.files import File, Inventory, extension, is_url
from clipscan.data.lines import LineReader
from clipscan.data.pictures import files_inside, read_picture
from clipscan.data.sample import Bad, Sample
from clipscan.data.text import KEY_FIELDS, Unfit, caption_text, first_field, printable, tag_text, tags
from clipscan.errors import DataError

IMAGE_COLUMNS = ("filepath", "file_name", "filename", "image_path", "image", "path", "file")
TEXT_COLUMNS = ("title", "caption", "text", "description")  # open_clip's default first, as above
SEPARATORS = ",\t;|"


class Header(NamedTuple):
    """How a table is read."""

    columns: list[str]
    separator: str
    image: str
    text: str


class Row(NamedTuple):
    """One row as parsed; its bytes in the file are [start, end)."""

    at: int
    cells: dict[str, Any] | Unfit
    start: int
    end: int


class CsvTable(Dataset):
    """Rows of tables; a shard is a table or a slice of one, `at` the row number, header not counted."""

    format = "csv"
    stamped = False  # of the table only, not of the pictures

    def __init__(
        self,
        source: str,
        shards: list[Shard],
        notes: str,
        headers: dict[str, Header],
        offsets: dict[str, int],
    ) -> None:
        super().__init__(source, shards, notes)
        self.headers = headers  # by the table's path
        self.offsets = offsets  # by the shard's name: byte where its first row begins

    def records(self, shard: Shard, rows: Mapping[int, str] | None = None) -> Iterator[Record]:
        keys = RowKeys()
        try:
            for row in self.rows(shard):
                key = keys.name(self._key(shard, row), row.at)
                if rows is None or rows.get(row.at) == key:
                    yield Record(row.at, key, self._load(shard, row, key))
        except OSError as error:
            yield Record(-1, "", Bad(shard.name, "", printable(f"cannot read the table: {error}")))

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The shard's rows, pictures not touched."""
        first, stop = shard.rows or (0, 0)
        header = self.headers[shard.location]
        with open(shard.location, "rb") as stream:
            stream.seek(self.offsets[shard.name])
            for row in parse(LineReader(stream), header, first):
                if row.at >= stop:
                    return
                yield row

    def files(self, shard: Shard) -> dict[str, File]:
        """The table, and the pictures that the shard's rows name."""
        cells = (row.cells for row in self.rows(shard))
        column = self.headers[shard.location].image
        names = [str(one.get(column) or "") for one in cells if not isinstance(one, Unfit)]
        return super().files(shard) | files_inside(os.path.dirname(shard.location), filter(None, names))

    def _key(self, shard: Shard, row: Row) -> str:
        if isinstance(row.cells, Unfit):
            return ""
        named = first_field(row.cells, KEY_FIELDS) or ""
        return tag_text(named or stem(row.cells.get(self.headers[shard.location].image, "")))

    def _load(self, shard: Shard, row: Row, key: str) -> Sample | Bad:
        header = self.headers[shard.location]
        try:
            if isinstance(row.cells, Unfit):
                raise row.cells
            caption = caption_text(row.cells.get(header.text))
            if not (name := row.cells.get(header.image)):
                raise Unfit(f"row {row.at} names no picture in column {header.image!r}")
            image = read_picture(os.path.dirname(shard.location), name)
            return Sample(shard.name, key, image, caption, **tags(row.cells), at=row.at)
        except Unfit as unfit:
            return Bad(shard.name, key, printable(str(unfit)))


def parse(lines: LineReader, header: Header, first: int) -> Iterator[Row]:
    """Rows from where `lines` stands, numbered from `first`; blank lines are no rows."""
    reader = csv.reader(lines, delimiter=header.separator)
    at, start = first, lines.position
    while True:
        cells: dict[str, Any] | Unfit
        try:
            values = next(reader)
            cells = dict(zip(header.columns, values, strict=False))
        except StopIteration:
            return
        except csv.Error as error:
            values, cells = [""], Unfit(f"row {at} is not valid csv: {error}")
        except Unfit as unfit:  # a line without end: the table is lost from here
            yield Row(at, Unfit(f"row {at}: {unfit}"), start, start)
            return
        if values:
            yield Row(at, cells, start, lines.position)
            at += 1
        start = lines.position


def open_csv(
    inventory: Inventory, image_key: str | None, text_key: str | None, rows_per_shard: int
) -> CsvTable:
    """Scan the tables of the inventory. DataError names the columns where the wanted ones are missing."""
    names = inventory.names()
    tables = inventory.of_kind("csv", "tsv")
    shards: list[Shard] = []
    headers: dict[str, Header] = {}
    offsets: dict[str, int] = {}
    for table in tables:
        if is_url(table.path):
            raise DataError(f"{table.path}: a csv names files beside it; copy the dataset to a local folder")
        header, starts = _scan(table, image_key, text_key, rows_per_shard)
        headers[table.path] = header
        parts = slices(printable(names[table.path]), starts.pop(), rows_per_shard)
        for (name, rows), offset in zip(parts, starts, strict=True):
            shards.append(Shard(name, table.path, table.size, table.stamp, rows))
            offsets[name] = offset
    notes = ", ".join(sorted({f"pictures {h.image!r}, captions {h.text!r}" for h in headers.values()}))
    return CsvTable(inventory.source, shards, notes, headers, offsets)


def _scan(table: File, image: str | None, text: str | None, rows_per_shard: int) -> tuple[Header, list[int]]:
    """The header, the byte offset of every shard's first row, and last the number of rows."""
    try:
        with open(table.path, "rb") as stream:
            lines = LineReader(stream)
            header = _header(table.path, next(lines, ""), image, text)
            starts, rows = [lines.position], 0
            for row in parse(lines, header, 0):
                if row.at and row.at % rows_per_shard == 0:
                    starts.append(row.start)
                rows = row.at + 1
    except (OSError, Unfit, csv.Error) as error:
        raise DataError(f"cannot read {table.path}: {error}") from error
    return header, [*starts, rows]


def _header(path: str, line: str, image: str | None, text: str | None) -> Header:
    likely = "\t" if extension(path) == "tsv" else max(SEPARATORS, key=line.count)
    columns = next(csv.reader([line], delimiter=likely), [])
    return Header(columns, likely, _column(path, columns, image, IMAGE_COLUMNS, "--image-key"),
                  _column(path, columns, text, TEXT_COLUMNS, "--text-key"))  # fmt: skip


def _column(path: str, columns: list[str], forced: str | None, usual: tuple[str, ...], option: str) -> str:
    chosen = next((name for name in ([forced] if forced else usual) if name in columns), None)
    if chosen is None:
        wanted = repr(forced) if forced else f"one of {', '.join(usual)}"
        raise DataError(f"{path} has the columns {columns}, not {wanted}; name one with {option}")
    return chosen
