"""A folder of pictures: captions by stem (.txt, .json), or in metadata.csv / .jsonl / .parquet files.

Reads `img2dataset --output_format files`, Hugging Face imagefolder and plain folders, at any depth. A
sample is a picture, or a row of a metadata file; its key is the picture's path without extension. A
metadata row wins over a file beside the picture. Only files inside the folder are read, and inside those
that the user names besides, whatever names and links say.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipscan.data.csv_rows import QUOTING
from clipscan.data.dataset import Dataset, Record, Shard, slices
from clipscan.data.extensions import make_rules
from clipscan.data.folder_layout import Entry, FolderLayout, entry_key, odd_spellings
from clipscan.data.folder_metadata import METADATA, metadata_entries
from clipscan.data.inventory import File, Inventory, describe, extension, is_url
from clipscan.data.pictures import MAX_TEXT_BYTES, UNREAD_EXTENSIONS, files_inside, read_inside, read_picture
from clipscan.data.sample import Bad, Sample, unreadable
from clipscan.data.text import Unfit, caption_text, first_field, json_object, no_caption, printable, tags
from clipscan.errors import DataError


class Folder(Dataset):
    """Pictures below a root; a shard is a slice of the sorted listing, `at` the place in it."""

    format = "folder"

    def __init__(
        self,
        source: str,
        shards: list[Shard],
        listing: list[Entry],
        metadata: list[str],
        layout: FolderLayout,
    ) -> None:
        super().__init__(source, shards, f"{len(listing):,} pictures")
        self.listing = listing
        self.metadata = metadata  # names of the metadata files
        self.layout = layout
        self.root, self.rules = layout.root, layout.rules

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        start, stop = shard.rows or (0, len(self.listing))
        for at in sorted(only) if only is not None else range(start, stop):
            entry = self.listing[at]
            key = entry_key(entry)
            if only is None or only[at] == key:
                yield Record(at, key, self._load(shard.name, key, at, entry))

    def files(self, shard: Shard) -> dict[str, File]:
        """The metadata files, and the shard's pictures with their captions."""
        start, stop = shard.rows or (0, len(self.listing))
        names = [*self.metadata]
        for entry in self.listing[start:stop]:
            if entry.picture:
                names += [entry.picture, *self.layout.beside(entry.picture)]
        return files_inside(self.root, names, self.layout.roots)

    def _load(self, shard: str, key: str, at: int, entry: Entry) -> Sample | Bad:
        try:
            if entry.fault:
                raise Unfit(entry.fault)
            image = read_picture(self.root, entry.picture, self.layout.roots)
            about = dict(self._json(entry) or {}, **(entry.row or {}))
            return Sample(shard, key, image, self._caption(entry, about), **tags(about), at=at)
        except Unfit as unfit:
            return unreadable(shard, key, unfit)

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
            raise no_caption(about, what)
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
        (name,) = self.layout.beside(entry.picture, ext)
        if not os.path.lexists(os.path.join(self.root, name)):
            return None
        return read_inside(self.root, name, MAX_TEXT_BYTES, self.layout.roots)

    def holds(self) -> set[str]:
        """Metadata files, pictures and what lies beside these under their name."""
        pictures = [entry.picture for entry in self.listing]
        names = {*self.metadata, *pictures, *(n for name in pictures for n in self.layout.beside(name))}
        return {os.path.join(self.root, name) for name in names}


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
    layout = FolderLayout(root, rules, tuple(roots), quoting, odd_spellings(names.values(), rules))
    listing = _listing(layout, list(names.values()), metadata)
    parts = slices(".", len(listing), rows_per_shard) if listing else []
    about = {names[file.path]: file for file in inventory.files}
    shards = [Shard(name, root, *_stamp(listing[a:b], about, layout), (a, b)) for name, (a, b) in parts]
    return Folder(inventory.source, shards, listing, metadata, layout)


def _listing(layout: FolderLayout, names: list[str], metadata: list[str]) -> list[Entry]:
    """Every picture and every metadata row, sorted by picture; repeated keys and bad names are faults."""
    kinds = {*layout.rules.image, *UNREAD_EXTENSIONS}
    pictures = {name for name in names if extension(name) in kinds}
    entries = [entry for name in metadata for entry in metadata_entries(layout, name)]
    named = {entry.picture for entry in entries}
    entries += [Entry(picture) for picture in pictures - named]
    entries.sort(key=lambda entry: (entry.picture, entry.fault))
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        key = entry_key(entry)
        kind = extension(entry.picture)
        if kind in UNREAD_EXTENSIONS and kind not in layout.rules.image:
            entries[i] = entry._replace(
                fault=f"a .{kind} picture is not decoded here; convert it to .jpg or .png"
            )
            continue  # its key is free for a .jpg of the same name
        if key in seen and not entry.fault:
            entries[i] = entry._replace(fault="another picture or metadata row has the same key")
        seen.add(key)
    return entries


def _stamp(entries: list[Entry], about: dict[str, File], layout: FolderLayout) -> tuple[int, str]:
    """Bytes of the pictures, and a digest that changes when a picture or caption file does."""
    digest = hashlib.sha256()
    size = 0
    for entry in entries:
        for name in (entry.picture, *layout.beside(entry.picture)):
            file = describe(name) if os.path.isabs(name) else about.get(name)
            if file is not None and file.size >= 0:
                digest.update(f"{name}\0{file.size}\0{file.stamp}\0".encode("utf-8", "surrogateescape"))
                size += file.size if name == entry.picture else 0
        digest.update(repr(entry.row).encode("utf-8", "surrogateescape"))
    return size, digest.hexdigest()[:16]
