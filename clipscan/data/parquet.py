"""Parquet tables with pictures inside: Hugging Face Image structs ({bytes, path}) or plain binary columns.

Also img2dataset's `--output_format parquet`. A file is a shard; a big one is cut at row groups.
Rows are read in small batches, so memory holds a few pictures, never a row group.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data.dataset import Dataset, Record, RowKeys, Shard
from clipscan.data.files import File, Inventory, open_binary
from clipscan.data.pictures import MAX_IMAGE_BYTES
from clipscan.data.sample import Bad, Sample
from clipscan.data.text import (
    CAPTION_FIELDS,
    KEY_FIELDS,
    TAG_FIELDS,
    Unfit,
    caption_text,
    first_field,
    printable,
    tag_text,
    tags,
)
from clipscan.errors import DataError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "bytes", "image_bytes")
BATCH_ROWS = 16  # pictures of a few MB each; a larger batch reads no faster
PARQUET_ERRORS = (OSError, pa.ArrowException, EOFError, UnicodeDecodeError)  # the last: column names


class ParquetPictures(Dataset):
    """Rows of parquet files; `at` is the row number in the file."""

    format = "parquet"

    def __init__(self, source: str, shards: list[Shard], notes: str, image: str, text: str) -> None:
        super().__init__(source, shards, notes)
        self.image = image
        self.text = text

    def records(self, shard: Shard, rows: Mapping[int, str] | None = None) -> Iterator[Record]:
        keys = RowKeys()
        try:
            with open_parquet_file(shard.location) as table:
                columns = known_columns(table.schema_arrow, self.image, self.text)
                for at, row in table_rows(table, columns, shard.rows, BATCH_ROWS, rows):
                    key = keys.name(row_key(row), at) if rows is None else rows[at]
                    yield Record(at, key, self._load(shard.name, key, at, row))
        except PARQUET_ERRORS as error:
            yield Record(-1, "", Bad(shard.name, "", printable(f"cannot read the parquet file: {error}")))

    def columns(self, shard: Shard) -> tuple[str, ...]:
        """Of the picture and the caption, as the first file has them."""
        return self.image, self.text

    def _load(self, shard: str, key: str, at: int, row: dict[str, Any]) -> Sample | Bad:
        try:
            image = _picture(row.get(self.image))
            return Sample(shard, key, image, caption_text(row.get(self.text)), **tags(row), at=at)
        except Unfit as unfit:
            return Bad(shard, key, printable(str(unfit)))


def _picture(value: object) -> bytes:
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            raise Unfit(f"the row only names {printable(str(value['path']))!r}; such files are not read")
        value = value.get("bytes")
    if value is None:
        raise Unfit("picture is missing")
    if not isinstance(value, bytes):
        raise Unfit(f"picture is of type {type(value).__name__}, not bytes")
    if not value:
        raise Unfit("picture is empty (0 bytes)")
    if len(value) > MAX_IMAGE_BYTES:
        raise Unfit(f"picture has {len(value):,} bytes, the limit is {MAX_IMAGE_BYTES:,}")
    return value


def row_key(row: Mapping[str, Any]) -> str:
    """The value of a row's key column, "" without one."""
    return tag_text(first_field(row, KEY_FIELDS))


def known_columns(schema: pa.Schema, *also: str) -> list[str]:
    """The columns with keys and tags, and those named besides: all that is ever read."""
    wanted = {*also, *KEY_FIELDS, *(name for names in TAG_FIELDS.values() for name in names)}
    return [name for name in schema.names if name in wanted]


@contextmanager
def open_parquet_file(location: str) -> Iterator[pq.ParquetFile]:
    """A parquet file, local or remote; one of PARQUET_ERRORS if it is none."""
    with open_binary(location) as stream:
        yield pq.ParquetFile(stream, pre_buffer=False)


def table_rows(
    table: pq.ParquetFile,
    columns: list[str],
    span: tuple[int, int] | None,
    batch_rows: int,
    only: Mapping[int, str] | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, row) of a slice that begins at a row group; with `only`, other rows are skipped.

    Row groups without a wanted row are not read. Text that is not UTF-8 comes as bytes.
    """
    starts = group_starts(table)
    first, stop = span or (0, starts[-1])
    for group in range(table.num_row_groups):
        begin, end = starts[group], starts[group + 1]
        if begin < first or begin >= stop or (only is not None and not any(begin <= at < end for at in only)):
            continue
        at = begin
        for batch in table.iter_batches(batch_rows, row_groups=[group], columns=columns, use_threads=False):
            for i in range(batch.num_rows):
                if only is None or at + i in only:
                    yield at + i, {name: _cell(batch.column(name)[i]) for name in batch.schema.names}
            at += batch.num_rows


def group_starts(table: pq.ParquetFile) -> list[int]:
    """First row of every row group, and last the number of rows."""
    starts = [0]
    for group in range(table.num_row_groups):
        starts.append(starts[-1] + table.metadata.row_group(group).num_rows)
    return starts


def _cell(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return bytes(value.as_buffer()) if hasattr(value, "as_buffer") else None


def open_parquet(
    inventory: Inventory, image_key: str | None, text_key: str | None, rows_per_shard: int
) -> ParquetPictures:
    """All parquet files of the inventory; the columns are chosen from the first one that opens."""
    files = inventory.of_kind("parquet")
    names = inventory.names()
    schema = first_schema(files)
    image = choose(schema, image_key, _picture_columns(schema), "picture", "--image-key")
    text = choose(schema, text_key, [c for c in CAPTION_FIELDS if c in schema.names], "caption", "--text-key")
    shards = [
        shard for file in files for shard in parquet_shards(file, printable(names[file.path]), rows_per_shard)
    ]
    return ParquetPictures(inventory.source, shards, f"pictures {image!r}, captions {text!r}", image, text)


def parquet_shards(file: File, name: str, rows_per_shard: int) -> list[Shard]:
    """One file as shards of whole row groups, at least rows_per_shard rows each but the last."""
    try:
        with open_parquet_file(file.path) as table:
            starts = group_starts(table)
    except PARQUET_ERRORS:
        return [Shard(name, *file)]  # reads as Bad, with the reason
    cuts = [0]
    while starts[-1] - cuts[-1] > rows_per_shard:
        cuts.append(starts[min(bisect_left(starts, cuts[-1] + rows_per_shard), len(starts) - 1)])
    if cuts[-1] != starts[-1]:
        cuts.append(starts[-1])
    spans = list(pairwise(cuts))
    if len(spans) <= 1:
        return [Shard(name, *file, (0, starts[-1]))]
    return [Shard(f"{name}[{a}:{b}]", *file, (a, b)) for a, b in spans]


def first_schema(files: Sequence[File]) -> pa.Schema:
    """The columns of the first file that opens; DataError if none does."""
    reason = "there is none"
    for file in files:
        try:
            with open_parquet_file(file.path) as table:
                schema = table.schema_arrow
                _ = schema.names  # decodes them, here where it may fail
                return schema
        except PARQUET_ERRORS as error:
            reason = f"{file.path}: {error}"
    raise DataError(f"no parquet file can be read ({reason})")


def has_pictures(inventory: Inventory) -> bool:
    """Has the table a column of pictures (else it may hold embeddings)?"""
    return bool(_picture_columns(first_schema(inventory.of_kind("parquet"))))


def _picture_columns(schema: pa.Schema) -> list[str]:
    """Columns that may hold encoded pictures, the likeliest first."""
    held = [f.name for f in schema if _is_binary(f.type) or _is_image_struct(f.type)]
    return [name for name in IMAGE_COLUMNS if name in held] + [
        name for name in held if name not in IMAGE_COLUMNS
    ]


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_image_struct(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def choose(schema: pa.Schema, forced: str | None, found: Sequence[str], what: str, option: str) -> str:
    """The forced column if it exists, else the first found one; DataError lists the columns."""
    if forced and forced in schema.names:
        return forced
    if forced or not found:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        wanted = f"no column {forced!r}" if forced else f"no {what} column known by name"
        raise DataError(f"{wanted}; the table has {columns}: name one with {option}")
    return found[0]
