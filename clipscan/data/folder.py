"""A folder of pictures: captions by stem (.txt, .json), or in metadata.csv / .jsonl / .parquet files.

Reads `img2dataset --output_format files`, Hugging Face imagefolder and plain folders, at any depth. A
sample is a picture, or a row of a metadata file; its key is the picture's path without extension. A
metadata row wins over a file beside the picture. Only files inside the folder are read, and inside those
that the user names besides, whatever names and links say.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from clipscan.data.csv_rows import QUOTING, Row, only_one, parse, read_header
from clipscan.data.dataset import Dataset, Record, Shard, slices, stem
from clipscan.data.files import File, Inventory, describe, extension, is_url
from clipscan.data.lines import LineReader
from clipscan.data.parquet_columns import known_columns
from clipscan.data.parquet_files import open_parquet_file, table_rows
from clipscan.data.pictures import (
    MAX_TEXT_BYTES,
    UNREAD_EXTENSIONS,
    files_inside,
    inside,
    read_inside,
    read_picture,
)
from clipscan.data.sample import Bad, Sample
from clipscan.data.tar_groups import Rules, make_rules
from clipscan.data.text import Unfit, caption_text, first_field, json_object, printable, shown_fields, tags
from clipscan.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_FIELDS = ("file_name", "filename", "image_file_name", "image", "path")
METADATA_ROWS = 1_024  # of parquet, read at once


class Reading(NamedTuple):
    """How a folder is read: from where, and by which rules."""

    root: str
    rules: Rules
    roots: tuple[str, ...] = ()  # further folders that pictures may lie in
    quoting: str = QUOTING[0]
    spelt: Mapping[str, str] = {}  # "0.txt" -> "0.TXT": captions whose suffix is not in small letters

    def beside(self, picture: str, *suffixes: str) -> list[str]:
        """Names of what may lie beside a picture: with these suffixes, or all that are ever read."""
        names = (
            f"{stem(picture)}.{ext}" for ext in suffixes or dict.fromkeys(("txt", "json", *self.rules.text))
        )
        return [self.spelt.get(name, name) for name in names]


class Entry(NamedTuple):
    """One sample to be: where its picture lies, what a metadata file says, or what is wrong with it."""

    picture: str  # relative to the root
    row: dict[str, Any] | None = None
    fault: str = ""
    where: str = ""  # "metadata.csv, row 3" if such a row names it; the key of a row without picture


class Folder(Dataset):
    """Pictures below a root; a shard is a slice of the sorted listing, `at` the place in it."""

    format = "folder"

    def __init__(
        self,
        source: str,
        shards: list[Shard],
        listing: list[Entry],
        metadata: list[str],
        reading: Reading,
    ) -> None:
        super().__init__(source, shards, f"{len(listing):,} pictures")
        self.listing = listing
        self.metadata = metadata  # names of the metadata files
        self.reading = reading
        self.root, self.rules = reading.root, reading.rules

    def records(self, shard: Shard, rows: Mapping[int, str] | None = None) -> Iterator[Record]:
        start, stop = shard.rows or (0, len(self.listing))
        for at in sorted(rows) if rows is not None else range(start, stop):
            entry = self.listing[at]
            key = entry_key(entry)
            if rows is None or rows[at] == key:
                yield Record(at, key, self._load(shard.name, key, at, entry))

    def files(self, shard: Shard) -> dict[str, File]:
        """The metadata files, and the shard's pictures with their captions."""
        start, stop = shard.rows or (0, len(self.listing))
        names = [*self.metadata]
        for entry in self.listing[start:stop]:
            if entry.picture:
                names += [entry.picture, *self.reading.beside(entry.picture)]
        return files_inside(self.root, names, self.reading.roots)

    def _load(self, shard: str, key: str, at: int, entry: Entry) -> Sample | Bad:
        try:
            if entry.fault:
                raise Unfit(entry.fault)
            image = read_picture(self.root, entry.picture, self.reading.roots)
            about = dict(self._json(entry) or {}, **(entry.row or {}))
            return Sample(shard, key, image, self._caption(entry, about), **tags(about), at=at)
        except Unfit as unfit:
            return Bad(shard, key, printable(str(unfit)))

    def _caption(self, entry: Entry, about: dict[str, Any]) -> str:
        if entry.row is not None and first_field(entry.row, self.rules.fields) is not None:
            return caption_text(first_field(entry.row, self.rules.fields))
        for ext in self.rules.text:
            if ext == "json" and first_field(about, self.rules.fields) is not None:
                return caption_text(first_field(about, self.rules.fields))
            if ext != "json" and (data := self._beside(entry, ext)) is not None:
                return caption_text(data)
        tried = ", ".join("." + ext for ext in self.rules.text)
        if about:
            what = printable(entry.where) if entry.row is not None else "its .json"
            raise Unfit(
                f"caption is missing: {what} has {shown_fields(about)}; --text-key names another field"
            )
        raise Unfit(
            f"no caption: no {tried} of the same name, and no {' or '.join(METADATA)} names it; --text-key "
            "names other suffixes"
        )

    def _json(self, entry: Entry) -> dict[str, Any] | None:
        """The .json beside the picture; spoilt, it only matters if it had to hold the caption."""
        data = self._beside(entry, "json")
        if data is None:
            return None
        try:
            return json_object(data, ".json")
        except Unfit:
            texts = (self._beside(entry, ext) for ext in self.rules.text if ext != "json")
            if entry.row is None and all(text is None for text in texts):
                raise
            return None

    def _beside(self, entry: Entry, ext: str) -> bytes | None:
        (name,) = self.reading.beside(entry.picture, ext)
        if not os.path.lexists(os.path.join(self.root, name)):
            return None
        return read_inside(self.root, name, MAX_TEXT_BYTES, self.reading.roots)

    def holds(self) -> set[str]:
        """Metadata files, pictures and what lies beside these under their name."""
        pictures = [entry.picture for entry in self.listing]
        names = {*self.metadata, *pictures, *(n for name in pictures for n in self.reading.beside(name))}
        return {os.path.join(self.root, name) for name in names}


def _odd_spellings(names: Collection[str], rules: Rules) -> dict[str, str]:
    """Captions whose suffix has capital letters, by the name that they would have without (as in tars)."""
    kinds = {"txt", "json", *rules.text}
    odd = {f"{stem(name)}.{extension(name)}": name for name in names if extension(name) in kinds}
    there = set(names)
    return {usual: name for usual, name in odd.items() if usual not in there}


def entry_key(entry: Entry) -> str:
    """A folder sample's key: the picture's path without extension, printable."""
    return printable(stem(entry.picture)) if entry.picture else entry.where


def open_folder(
    inventory: Inventory,
    image_key: str | None,
    text_key: str | None,
    rows_per_shard: int,
    *,
    roots: Sequence[str] = (),
    quoting: str = QUOTING[0],
) -> Folder:
    """List the folder's pictures and metadata rows. DataError unless the source is one local folder."""
    root = inventory.roots[0]
    if len(inventory.roots) != 1 or is_url(root) or not os.path.isdir(root):
        raise DataError(f"{inventory.source}: pictures are read from one local folder; copy it here")
    rules = make_rules(image_key, text_key)
    if text_key:  # also the name of a metadata column
        rules = rules._replace(fields=(text_key, *rules.fields))
    names = inventory.names()
    metadata = [name for name in names.values() if os.path.basename(name) in METADATA]
    reading = Reading(root, rules, tuple(roots), quoting, _odd_spellings(names.values(), rules))
    listing = _listing(reading, list(names.values()), metadata)
    parts = slices(".", len(listing), rows_per_shard) if listing else []
    about = {names[file.path]: file for file in inventory.files}
    shards = [Shard(name, root, *_stamp(listing[a:b], about, reading), (a, b)) for name, (a, b) in parts]
    return Folder(inventory.source, shards, listing, metadata, reading)


def _listing(reading: Reading, names: list[str], metadata: list[str]) -> list[Entry]:
    """Every picture and every metadata row, sorted by picture; repeated keys and bad names are faults."""
    kinds = {*reading.rules.image, *UNREAD_EXTENSIONS}
    pictures = {name for name in names if extension(name) in kinds}
    entries = [entry for name in metadata for entry in _metadata(reading, name)]
    named = {entry.picture for entry in entries}
    entries += [Entry(picture) for picture in pictures - named]
    entries.sort(key=lambda entry: (entry.picture, entry.fault))
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        key = entry_key(entry)
        kind = extension(entry.picture)
        if kind in UNREAD_EXTENSIONS and kind not in reading.rules.image:
            entries[i] = entry._replace(
                fault=f"a .{kind} picture is not decoded here; convert it to .jpg or .png"
            )
            continue  # its key is free for a .jpg of the same name
        if key in seen and not entry.fault:
            entries[i] = entry._replace(fault="another picture or metadata row has the same key")
        seen.add(key)
    return entries


def _metadata(reading: Reading, name: str) -> Iterator[Entry]:
    """The rows of one metadata file; their file names are relative to its folder."""
    try:
        yield from (_entry(reading, name, row) for row in metadata_rows(reading, name))
    except (Unfit, csv.Error, OSError, DataError) as error:
        where = printable(name)
        yield Entry("", None, f"cannot read {where}: {error}", where)


def _entry(reading: Reading, name: str, row: Row) -> Entry:
    where = row_name(name, row)
    if isinstance(row.cells, Unfit):
        return Entry("", None, f"{where}: {row.cells}", where)
    wanted = first_field(row.cells, FILE_FIELDS)
    if not isinstance(wanted, str) or not wanted:
        fault = f"{where} names no file: it has {shown_fields(row.cells)}, and {FILE_FIELDS[0]} is wanted"
        return Entry("", None, fault, where)
    picture = _placed(reading.root, os.path.dirname(name), wanted)
    if os.path.isabs(picture) or picture.startswith(".."):
        try:
            inside(reading.root, picture, reading.roots)
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


def metadata_rows(reading: Reading, name: str) -> Iterator[Row]:
    """The rows of a metadata file, numbered from 0; Unfit, OSError or DataError if it cannot be read (on)."""
    path = inside(reading.root, name, reading.roots)
    if name.endswith(".parquet"):
        yield from _parquet_rows(path, reading.rules)
        return
    with open(path, "rb") as stream:
        lines = LineReader(stream)
        if name.endswith(".csv"):
            header = read_header(lines, reading.quoting)
            columns = _as_known(header.columns, (*FILE_FIELDS, *reading.rules.fields))
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


def _stamp(entries: list[Entry], about: dict[str, File], reading: Reading) -> tuple[int, str]:
    """Bytes of the pictures, and a digest that changes when a picture or caption file does."""
    digest = hashlib.sha256()
    size = 0
    for entry in entries:
        for name in (entry.picture, *reading.beside(entry.picture)):
            file = describe(name) if os.path.isabs(name) else about.get(name)
            if file is not None and file.size >= 0:
                digest.update(f"{name}\0{file.size}\0{file.stamp}\0".encode("utf-8", "surrogateescape"))
                size += file.size if name == entry.picture else 0
        digest.update(repr(entry.row).encode("utf-8", "surrogateescape"))
    return size, digest.hexdigest()[:16]
