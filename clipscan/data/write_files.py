"""Writing without some samples: tars (blocks copied verbatim), picture folders and csv tables."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from clipscan.data.csv_rows import Row
from clipscan.data.csv_table import CsvTable
from clipscan.data.dataset import Shard, whole_name
from clipscan.data.folder import Folder
from clipscan.data.folder_layout import Entry, FolderLayout
from clipscan.data.folder_metadata import metadata_rows, row_name
from clipscan.data.pictures import inside
from clipscan.data.sample import Bad
from clipscan.data.tar_groups import READ_ERRORS, member_groups
from clipscan.data.tar_members import BLOCK, padded
from clipscan.data.text import Unfit
from clipscan.data.webdataset import WebDataset, open_tar
from clipscan.data.write_judge import Judge, by_file, target
from clipscan.data.write_tables import filter_parquet
from clipscan.errors import DataError

RECORD = 20 * BLOCK  # tar pads archives to this, and so do we
CHUNK = 4 << 20  # bytes copied at a time


def write_tars(dataset: WebDataset, judge: Judge, folder: Path) -> Iterator[Shard]:
    """Every tar without the members of samples that go; one that cannot be opened is left out."""
    for shard in dataset.shards:
        judge.begin(shard)
        try:
            holes, end = _holes(dataset, shard, judge)
        except READ_ERRORS as error:
            judge.keeps(shard.name, "", Bad(shard.name, "", str(error)))
            continue
        with _new_tar(target(folder, shard.name), shard) as out, open_tar(shard.location) as (stream, _):
            written = sum(_copy(stream, out, start, stop) for start, stop in _between(holes, end))
            marked = padded(written) + 2 * BLOCK  # the end mark is two blocks of zeros
            out.write(bytes(-(-marked // RECORD) * RECORD - written))
        yield shard


def _holes(dataset: WebDataset, shard: Shard, judge: Judge) -> tuple[list[tuple[int, int]], int]:
    """The byte ranges to leave out, sorted, and where the last member's content ends."""
    holes, end = [], 0
    with open_tar(shard.location) as (stream, length):
        for group in member_groups(stream, length, shard.name, dataset.rules):
            end = max([end, *(stop for _, stop in group.spans)])
            if not judge.keeps(shard.name, group.key, group.outcome) or group.cut:
                holes += [(start, padded(stop)) for start, stop in group.spans]
    return sorted(holes), end


def _between(holes: list[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    at = 0
    for start, stop in [*holes, (end, end)]:
        if start > at:
            yield at, start
        at = stop


def _copy(stream: BinaryIO, out: BinaryIO, start: int, stop: int) -> int:
    """Copy bytes [start, stop) and return how many."""
    stream.seek(start)
    left = stop - start
    while left and (data := stream.read(min(CHUNK, left))):
        out.write(data)
        left -= len(data)
    return stop - start - left


@contextmanager
def _new_tar(path: Path, shard: Shard) -> Iterator[BinaryIO]:
    with open(path, "xb") as plain:
        if shard.location.endswith(("gz", "GZ")):
            with gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as packed:  # no clock in the output
                yield cast(BinaryIO, packed)
        else:
            yield plain


def write_folder(dataset: Folder, judge: Judge, folder: Path) -> Iterator[Shard]:
    """The kept pictures and what lies beside them under their name, and the kept rows of metadata files."""
    kept: list[Entry] = []
    for shard in dataset.shards:
        judge.begin(shard)
        for record in dataset.records(shard):
            if judge.keeps(shard.name, record.key, record.outcome):
                kept.append(dataset.listing[record.at])
    for entry in kept:
        if entry.picture:
            for name in (entry.picture, *dataset.layout.beside(entry.picture)):
                _copy_file(dataset.root, name, folder, name, dataset.layout.roots)
    rows = {entry.where for entry in kept}
    for name in dataset.metadata:
        _copy_rows(dataset.layout, name, folder, rows)
    yield from dataset.shards


def _copy_rows(layout: FolderLayout, name: str, folder: Path, kept: set[str]) -> None:
    """A metadata file's lines up to its first row, and of the others those that stay."""
    try:
        rows = list(metadata_rows(layout, name))
        path = inside(layout.root, name, layout.roots)
    except (Unfit, OSError, DataError, csv.Error):
        return  # it was Bad already, as a file
    rows_kept = [row for row in rows if row_name(name, row) in kept]
    if name.endswith(".parquet"):
        filter_parquet(path, target(folder, name), np.asarray([row.at for row in rows_kept], dtype=np.int64))
        return
    with open(path, "rb") as source, open(target(folder, name), "xb") as out:
        _copy(source, out, 0, rows[0].start if rows else 0)
        for row in rows_kept:
            _copy(source, out, row.start, row.end)


def _copy_file(root: str, name: str, folder: Path, to: str, roots: Sequence[str]) -> None:
    """Copy one file of the dataset, if it is there and inside. One named absolutely stays where it is."""
    try:
        source = inside(root, name, roots)
    except Unfit:
        return
    if os.path.isabs(name) or not os.path.isfile(source):
        return
    if to.startswith(".."):
        raise DataError(
            f"{name!r} lies above the dataset's folder, where a copy of its table would not find it: use "
            "keep.txt or drop.txt of the run instead, or name such pictures absolutely"
        )
    path = target(folder, to)
    if not path.exists():
        shutil.copyfile(source, path)


def write_csv(dataset: CsvTable, judge: Judge, folder: Path) -> Iterator[Shard]:
    """The tables with the lines of kept rows as they were, and the pictures that these name; a table that
    cannot be read is left out."""
    for location, shards in by_file(dataset).items():
        if location not in dataset.headers:
            judge.begin(shards[0])
            judge.keeps(shards[0].name, "", Bad(shards[0].name, "", dataset.faults[shards[0].name]))
            yield from shards
            continue
        name = whole_name(shards[0])
        with open(location, "rb") as source, open(target(folder, name), "xb") as out:
            _copy(source, out, 0, dataset.begins[shards[0].name].offset)
            for shard in shards:
                judge.begin(shard)
                for row, record in zip(dataset.rows(shard), dataset.records(shard), strict=True):
                    if judge.keeps(shard.name, record.key, record.outcome):
                        _copy(source, out, row.start, row.end)
                        _copy_picture(dataset, location, row, os.path.dirname(name), folder)
        yield from shards


def _copy_picture(dataset: CsvTable, location: str, row: Row, subfolder: str, folder: Path) -> None:
    """The row's picture, where the new table names it."""
    if isinstance(row.cells, Unfit) or not (name := row.cells.get(dataset.headers[location].image)):
        return
    spelt = (
        name if os.path.lexists(os.path.join(os.path.dirname(location), name)) else name.replace("\\", "/")
    )
    to = os.path.normpath(os.path.join(subfolder, spelt))
    _copy_file(os.path.dirname(location), name, folder, to, dataset.further)
