"""CSV and TSV tables of picture files and captions, as `open_clip --dataset-type csv` reads them.

Pictures lie in or below the table's folder, that of the dataset or one that the user names besides, and
are named relative to one of these (or absolutely, inside one). Several rows may name one picture. Tables
are scanned once when opened, to cut them into shards and to find where each begins; one that cannot be read
is a shard that reads as Bad.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from clipscan.data.csv_rows import QUOTING, Header, Row, only_one, parse, read_header
from clipscan.data.dataset import Dataset, Record, RowKeys, Shard, broken_shard, slices, stem
from clipscan.data.inventory import File, Inventory, extension, is_url
from clipscan.data.lines import LineReader
from clipscan.data.pictures import files_inside, read_picture
from clipscan.data.sample import Bad, Sample, unreadable
from clipscan.data.text import (
    CAPTION_FIELDS,
    KEY_FIELDS,
    Unfit,
    caption_text,
    first_field,
    printable,
    tag_text,
    tags,
)
from clipscan.errors import DataError

IMAGE_COLUMNS = (
    "filepath",
    "file_name",
    "filename",
    "image_path",
    "image",
    "path",
    "file",
    "image_file_name",
)
TEXT_COLUMNS = (
    "title",
    "caption",
    "text",
    "description",
    *CAPTION_FIELDS,
)  # open_clip's default first, as above


class Begin(NamedTuple):
    """Where the first row of a shard begins."""

    offset: int  # byte
    line: int  # from 1


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
        begins: dict[str, Begin],
        faults: dict[str, str],
        further: tuple[str, ...],
        named: set[str],
    ) -> None:
        super().__init__(source, shards, notes)
        self.headers = headers  # by the table's path
        self.begins = begins  # by the shard's name
        self.faults = faults  # by the shard's name: why its table cannot be read
        self.further = further  # further folders that pictures may lie in
        self.named = named  # paths that rows name, where other files lie beside the tables

    def holds(self) -> set[str]:
        """The tables and the pictures that their rows name."""
        return super().holds() | self.named

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        if shard.name in self.faults:
            yield broken_shard(shard, self.faults[shard.name])
            return
        keys = RowKeys()
        try:
            for row in self.rows(shard):
                key = keys.name(self._key(shard, row), row.at)
                if only is None or only.get(row.at) == key:
                    yield Record(row.at, key, self._load(shard, row, key))
        except OSError as error:
            yield broken_shard(shard, f"cannot read the table: {error}")

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The shard's rows, pictures not touched."""
        first, stop = shard.rows or (0, 0)
        header = self.headers[shard.location]
        with open(shard.location, "rb") as stream:
            begin = self.begins[shard.name]
            stream.seek(begin.offset)
            for row in parse(LineReader(stream), header, first, begin.line):
                if row.at >= stop:
                    return
                yield row

    def files(self, shard: Shard) -> dict[str, File]:
        """The table, and the pictures that the shard's rows name."""
        if shard.name in self.faults:
            return super().files(shard)
        cells = (row.cells for row in self.rows(shard))
        column = self.headers[shard.location].image
        names = [str(one.get(column) or "") for one in cells if not isinstance(one, Unfit)]
        return super().files(shard) | files_inside(
            os.path.dirname(shard.location), filter(None, names), self.further
        )

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
            image = read_picture(os.path.dirname(shard.location), name, self.further)
            return Sample(shard.name, key, image, caption, **tags(row.cells), at=row.at)
        except Unfit as unfit:
            return unreadable(shard.name, key, unfit)


def open_csv(
    inventory: Inventory,
    image_key: str | None,
    text_key: str | None,
    rows_per_shard: int,
    *,
    roots: Sequence[str] = (),
    quoting: str = QUOTING[0],
) -> CsvTable:
    """Scan the tables of the inventory; DataError says why where none can be read."""
    names = inventory.names()
    tables = inventory.of_kind("csv", "tsv")
    further = (*(root for root in inventory.roots if os.path.isdir(root)), *roots)
    named: set[str] | None = set() if len(inventory.files) > len(tables) else None
    shards: list[Shard] = []
    headers: dict[str, Header] = {}
    begins: dict[str, Begin] = {}
    faults: dict[str, str] = {}
    for table in tables:
        whole = printable(names[table.path])
        try:
            header, starts, rows = _scan(table, image_key, text_key, rows_per_shard, quoting, further, named)
        except DataError as error:
            faults[whole] = str(error)
            shards.append(Shard(whole, *table))
            continue
        headers[table.path] = header
        for (name, span), begin in zip(slices(whole, rows, rows_per_shard), starts, strict=True):
            shards.append(Shard(name, table.path, table.size, table.stamp, span))
            begins[name] = begin
    if faults and not headers:
        raise DataError(next(iter(faults.values())))
    notes = ", ".join(sorted({f"pictures {h.image!r}, captions {h.text!r}" for h in headers.values()}))
    return CsvTable(inventory.source, shards, notes, headers, begins, faults, further, named or set())


def _scan(
    table: File,
    image: str | None,
    text: str | None,
    rows_per_shard: int,
    quoting: str,
    further: Sequence[str],
    named: set[str] | None,
) -> tuple[Header, list[Begin], int]:
    """The header, where every shard's first row begins, and the number of rows; their pictures into `named`.

    DataError if the table cannot be read.
    """
    if is_url(table.path):
        raise DataError(f"{table.path}: a csv names files beside it; copy the dataset to a local folder")
    folders = (os.path.dirname(table.path), *further)
    try:
        with open(table.path, "rb") as stream:
            lines = LineReader(stream)
            header = _header(table.path, lines, image, text, quoting)
            starts, rows = [Begin(lines.position, 2)], 0
            for row in parse(lines, header, 0):
                if row.at and row.at % rows_per_shard == 0:
                    starts.append(Begin(row.start, row.line))
                if named is not None and not isinstance(row.cells, Unfit):
                    named.update(placed(folder, row.cells.get(header.image, "")) for folder in folders)
                rows = row.at + 1
    except (OSError, Unfit, csv.Error) as error:
        raise DataError(f"cannot read {table.path}: {error}") from error
    return header, starts, rows


def placed(folder: str, name: str) -> str:
    """Where a row's picture should lie; backslashes, which Windows writes, read as slashes."""
    path = os.path.join(folder, name)
    if "\\" in name and not os.path.lexists(path):
        path = os.path.join(folder, name.replace("\\", "/"))
    return os.path.normpath(path)


def _header(path: str, lines: LineReader, image: str | None, text: str | None, quoting: str) -> Header:
    header = read_header(lines, quoting, "\t" if extension(path) == "tsv" else "")
    return header._replace(
        image=_column(path, header.columns, image, IMAGE_COLUMNS, "--image-key"),
        text=_column(path, header.columns, text, TEXT_COLUMNS, "--text-key"),
    )


def _column(path: str, columns: list[str], forced: str | None, usual: tuple[str, ...], option: str) -> str:
    """The first wanted column that is there, its case aside; of `a;b` forced the one that is there."""
    wanted = [forced, *forced.split(";")] if forced else usual
    there = {name.lower(): name for name in reversed(columns)}
    if (chosen := next((name for name in wanted if name in columns), None)) is not None:
        return only_one(columns, chosen)
    if (spelt := next((there[name.lower()] for name in wanted if name.lower() in there), None)) is not None:
        return only_one(columns, spelt)
    listed = repr(forced) if forced else f"one of {', '.join(dict.fromkeys(usual))}"
    raise DataError(
        f"{path} has the columns {columns[:40]}, not {listed}; name one with {option}{_urls(columns, option)}"
    )


def _urls(columns: list[str], option: str) -> str:
    """A remark where pictures are named by their URLs."""
    named = option == "--image-key" and any(name.lower() in ("url", "image_url") for name in columns)
    return ". URLs are not downloaded here: img2dataset makes tars of them" if named else ""
