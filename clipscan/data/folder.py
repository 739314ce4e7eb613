"""A folder of pictures: captions by stem (.txt, .json), or in metadata.csv / metadata.jsonl files.

Reads `img2dataset --output_format files`, Hugging Face imagefolder and plain folders, at any depth. A
sample is a picture, or a row of a metadata file; its key is the picture's path without extension. A
metadata row wins over a file beside the picture. Only files inside the folder are read, whatever names
and links say.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from clipscan.data.csv_table import Header, Row, parse
from clipscan.data.dataset import Dataset, Record, Shard, slices, stem
from clipscan.data.files import File, Inventory, extension, is_url
from clipscan.data.lines import LineReader
from clipscan.data.pictures import MAX_TEXT_BYTES, files_inside, inside, read_inside, read_picture
from clipscan.data.sample import Bad, Sample
from clipscan.data.tar_groups import Rules, make_rules
from clipscan.data.text import Unfit, caption_text, first_field, json_object, printable, tags
from clipscan.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl")
FILE_FIELDS = ("file_name", "filename", "image", "path")


class Entry(NamedTuple):
    """One sample to be: where its picture lies, what a metadata file says, or what is wrong with it."""

    picture: str  # relative to the root
    row: dict[str, Any] | None = None
    fault: str = ""
    where: str = ""  # "metadata.csv, row 3" if such a row names it; the key of a row without picture


class Folder(Dataset):
    """Pictures below `root`; a shard is a slice of the sorted listing, `at` the place in it."""

    format = "folder"

    def __init__(
        self,
        source: str,
        shards: list[Shard],
        root: str,
        listing: list[Entry],
        metadata: list[str],
        rules: Rules,
    ) -> None:
        super().__init__(source, shards, f"{len(listing):,} pictures")
        self.root = root
        self.listing = listing
        self.metadata = metadata  # names of the metadata files
        self.rules = rules

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
                names += [entry.picture, *beside(entry.picture, self.rules)]
        return files_inside(self.root, names)

    def _load(self, shard: str, key: str, at: int, entry: Entry) -> Sample | Bad:
        try:
            if entry.fault:
                raise Unfit(entry.fault)
            image = read_picture(self.root, entry.picture)
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
        raise Unfit(f"no caption: no {tried} of the same name, no metadata.csv or .jsonl names it")

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
        name = f"{stem(entry.picture)}.{ext}"
        if not os.path.lexists(os.path.join(self.root, name)):
            return None
        return read_inside(self.root, name, MAX_TEXT_BYTES)


def beside(picture: str, rules: Rules) -> list[str]:
    """Names that a picture's caption, or what else is known of it, may have."""
    return [f"{stem(picture)}.{ext}" for ext in dict.fromkeys(("txt", "json", *rules.text))]


def entry_key(entry: Entry) -> str:
    """A folder sample's key: the picture's path without extension, printable."""
    return printable(stem(entry.picture)) if entry.picture else entry.where


def open_folder(
    inventory: Inventory, image_key: str | None, text_key: str | None, rows_per_shard: int
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
    listing = _listing(root, list(names.values()), metadata, rules)
    parts = slices(".", len(listing), rows_per_shard) if listing else []
    about = {names[file.path]: file for file in inventory.files}
    shards = [Shard(name, root, *_stamp(listing[a:b], about, rules), (a, b)) for name, (a, b) in parts]
    return Folder(inventory.source, shards, root, listing, metadata, rules)


def _listing(root: str, names: list[str], metadata: list[str], rules: Rules) -> list[Entry]:
    """Every picture and every metadata row, sorted by picture; repeated keys and bad names are faults."""
    pictures = {name for name in names if extension(name) in rules.image}
    entries = [entry for name in metadata for entry in _metadata(root, name)]
    named = {entry.picture for entry in entries}
    entries += [Entry(picture) for picture in pictures - named]
    entries.sort(key=lambda entry: (entry.picture, entry.fault))
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        key = entry_key(entry)
        if key in seen and not entry.fault:
            entries[i] = entry._replace(fault="another picture or metadata row has the same key")
        seen.add(key)
    return entries


def _metadata(root: str, name: str) -> Iterator[Entry]:
    """The rows of one metadata file; their file names are relative to its folder."""
    try:
        yield from (_entry(name, row) for row in metadata_rows(root, name))
    except (Unfit, OSError, csv.Error) as error:
        where = printable(name)
        yield Entry("", None, f"cannot read {where}: {error}", where)


def _entry(name: str, row: Row) -> Entry:
    where = row_name(name, row)
    if isinstance(row.cells, Unfit):
        return Entry("", None, f"{where}: {row.cells}", where)
    wanted = first_field(row.cells, FILE_FIELDS)
    if not isinstance(wanted, str) or not wanted:
        return Entry("", None, f"{where} names no file (column {FILE_FIELDS[0]!r})", where)
    if wanted.startswith(("/", "\\")) or ".." in wanted.replace("\\", "/").split("/"):
        return Entry("", None, f"{where} names {printable(wanted)!r}, outside its folder: refused", where)
    return Entry(os.path.normpath(os.path.join(os.path.dirname(name), wanted)), row.cells, "", where)


def row_name(name: str, row: Row) -> str:
    """What a metadata row is called in messages and, if it names no picture, in lists: its identity."""
    return f"{printable(name)}, row {row.at}"


def metadata_rows(root: str, name: str) -> Iterator[Row]:
    """The rows of a metadata file, numbered from 0; Unfit or OSError if it cannot be read (on)."""
    with open(inside(root, name), "rb") as stream:
        lines = LineReader(stream)
        if name.endswith(".csv"):
            columns = next(csv.reader([next(lines, "")]), [])
            yield from parse(lines, Header(columns, ",", "", ""), 0)
            return
        start = 0
        for at, line in enumerate(lines):
            cells: dict[str, Any] | Unfit
            try:
                cells = json_object(line, "the line")
            except Unfit as unfit:
                cells = unfit
            yield Row(at, cells, start, lines.position)
            start = lines.position


def _stamp(entries: list[Entry], about: dict[str, File], rules: Rules) -> tuple[int, str]:
    """Bytes of the pictures, and a digest that changes when a picture or caption file does."""
    digest = hashlib.sha256()
    size = 0
    for entry in entries:
        for name in (entry.picture, *beside(entry.picture, rules)):
            if (file := about.get(name)) is not None:
                digest.update(f"{name}\0{file.size}\0{file.stamp}\0".encode("utf-8", "surrogateescape"))
                size += file.size if name == entry.picture else 0
        digest.update(repr(entry.row).encode("utf-8", "surrogateescape"))
    return size, digest.hexdigest()[:16]
