"""Parquet tables with pictures inside: Hugging Face Image structs ({bytes, path}) or plain binary columns.

Also img2dataset's `--output_format parquet`, and what `datasets` writes of a webdataset (jpg, txt, json,
__key__). A file is a shard; a big one is cut at row groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipscan.data.arrow_types import is_text, is_vector
from clipscan.data.dataset import Dataset, Record, RowKeys, Shard, broken_shard
from clipscan.data.inventory import File, Inventory
from clipscan.data.parquet_cells import json_fields, picture
from clipscan.data.parquet_columns import (
    JSON,
    Captions,
    caption_columns,
    column_type,
    known_columns,
    picture_column,
    picture_columns,
    same_name,
)
from clipscan.data.parquet_files import first_schema, open_parquet_file, parquet_shards, table_rows
from clipscan.data.sample import Bad, Sample, unreadable
from clipscan.data.text import KEY_FIELDS, Unfit, first_field, printable, tag_text, tags
from clipscan.errors import DataError

BATCH_ROWS = 16  # pictures of a few MB each; a larger batch reads no faster
HANDED_ON = 1 << 30  # bytes of pictures that any file may give one after the other


class ParquetPictures(Dataset):
    """Rows of parquet files; `at` is the row number in the file.

    image and text are the columns asked for; where None, each file's own are found by name and type.
    """

    format = "parquet"

    def __init__(
        self, source: str, shards: list[Shard], notes: str, image: str | None, text: str | None
    ) -> None:
        super().__init__(source, shards, notes)
        self.image = image
        self.text = text

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        keys = RowKeys()
        try:
            with open_parquet_file(shard.location) as table:
                schema = table.schema_arrow
                image, captions = picture_column(schema, self.image), caption_columns(schema, self.text)
                columns = known_columns(schema, image, *captions.columns(), same_name(schema, JSON) or JSON)
                for at, row in table_rows(table, columns, shard.rows, BATCH_ROWS, only, HANDED_ON):
                    key = keys.name(row_key(row), at) if only is None else only[at]
                    yield Record(at, key, _load(shard.name, key, at, row, image, captions))
        except DataError as error:
            yield broken_shard(shard, error)

    def columns(self, shard: Shard) -> tuple[str, ...]:
        """Those asked for."""
        return self.image or "", self.text or ""


def _load(shard: str, key: str, at: int, row: dict[str, Any], image: str, captions: Captions) -> Sample | Bad:
    try:
        return Sample(shard, key, picture(row.get(image)), captions.of(row), **tags(about(row)), at=at)
    except Unfit as unfit:
        return unreadable(shard, key, unfit)


def row_key(row: Mapping[str, Any]) -> str:
    """The value of a row's key column, "" without one."""
    return tag_text(first_field(row, KEY_FIELDS))


def about(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row, and what the JSON in it says besides; spoilt JSON costs only that."""
    json = next((value for name, value in row.items() if name.lower() == JSON), None)
    try:
        return {**json_fields(json), **{name: value for name, value in row.items() if value is not None}}
    except Unfit:
        return row


def open_parquet(
    inventory: Inventory, image_key: str | None, text_key: str | None, rows_per_shard: int
) -> ParquetPictures:
    """All parquet files of the inventory; DataError where none of them has the columns."""
    files = inventory.of_kind("parquet")
    names = inventory.names()
    shards = [
        shard for file in files for shard in parquet_shards(file, printable(names[file.path]), rows_per_shard)
    ]
    notes = _columns_found(files, image_key, text_key)
    return ParquetPictures(inventory.source, shards, notes, image_key, text_key)


def _columns_found(files: Sequence[File], image_key: str | None, text_key: str | None) -> str:
    """The columns of the first file that has them, in words; the reason of the first where none has."""
    reasons = []
    for file in files:
        try:
            with open_parquet_file(file.path) as table:
                schema = table.schema_arrow
            image, captions = picture_column(schema, image_key), caption_columns(schema, text_key)
            return f"pictures {image!r}, captions {captions.columns()[0]!r}"
        except DataError as error:
            reasons.append(str(error))
    raise DataError(reasons[0] if reasons else "there is no parquet file")


def has_pictures(inventory: Inventory, image_key: str | None = None) -> bool:
    """Has the table a column of pictures, of itself or as asked for (else it may hold embeddings)?"""
    schema = first_schema(inventory.of_kind("parquet"))
    asked = same_name(schema, image_key) if image_key else None
    if asked and is_vector(column_type(schema, asked)):
        return False
    return bool(picture_columns(schema)) or bool(asked and is_text(column_type(schema, asked)))
