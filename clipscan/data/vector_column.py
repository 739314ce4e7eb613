"""Embeddings in a parquet column of lists, one a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipscan.data.arrays import checked
from clipscan.data.arrow_types import is_list, is_vector
from clipscan.data.guard import check_unpacked, reading
from clipscan.data.parquet_columns import column_type
from clipscan.data.parquet_files import ParquetFile, batches, column_pages, open_parquet_file, row_groups
from clipscan.errors import DataError

BATCH_ROWS = 4096
LOOKED_AT = 1024  # rows that say how wide a file's vectors are
VALUE_BYTES = 8  # of the widest number


def load_column(
    path: str, column: str, span: tuple[int, int] | None, width: int | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Rows [span) of a list column as [n, d] floating, and row -> why it holds no vector (it is NaN then).

    d is `width` if a list has that length, else the length of most lists. Rows are counted from the
    span's begin; the reasons number them as the file does. DataError if the column cannot be read, or is
    none of floating point lists.
    """
    with open_parquet_file(path) as table:
        _check_column(table, column, span)
        parts = list(_parts(table, column, span))
    lengths = np.concatenate([length for length, _ in parts] or [np.zeros(0, np.int64)])
    if not len(lengths):
        return np.zeros((0, 1), np.float32), {}
    if not (lengths > 0).any():
        raise DataError(f"{path}: column {column!r} holds no vectors in its {len(lengths):,} rows")
    if width is None or not (lengths == width).any():
        width = usual(lengths)
    array = np.concatenate([_vectors(length, values, width) for length, values in parts])
    first = span[0] if span else 0
    odd = np.flatnonzero(lengths != width).tolist()
    return checked(array, f"{path}: column {column!r}"), {
        row: _why(first + row, int(lengths[row]), width) for row in odd
    }


def _vectors(lengths: np.ndarray, values: np.ndarray, width: int) -> np.ndarray:
    """The lists as rows [n, width], NaN where one has another length."""
    held = np.maximum(lengths, 0)
    fits = lengths == width
    if fits.all():
        return values.reshape(-1, width)
    rows = np.full((len(lengths), width), np.nan, values.dtype)
    rows[fits] = values[(np.cumsum(held) - held)[fits, None] + np.arange(width)]
    return rows


def column_width(path: str, column: str) -> int | None:
    """The length of most lists at a file's begin; None where it has none. DataError if it cannot be read."""
    with open_parquet_file(path) as table:
        for group, _, _ in row_groups(table, None):
            _check_column(table, column, None)
            for batch in batches(table, group, [column], LOOKED_AT):
                lengths = _lengths(_lists(batch, column))
                return usual(lengths) if (lengths > 0).any() else None
    return None


def usual(lengths: np.ndarray) -> int:
    """The commonest of those above 0; of equally common ones the first to come."""
    return Counter(lengths[lengths > 0].tolist()).most_common(1)[0][0]


def vector_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold one list of floating point numbers a row."""
    return [field.name for field in schema if is_vector(field.type)]


def _check_column(table: ParquetFile, column: str, span: tuple[int, int] | None) -> None:
    """DataError for a column that is no list of numbers, or of more numbers than such a file can hold."""
    schema = table.schema_arrow
    if column not in schema.names:
        raise DataError(f"{table.location} has no column {column!r}; it has {', '.join(schema.names)}")
    if not is_vector(column_type(schema, column)):
        kind = schema.field(column).type
        raise DataError(f"{table.location}: column {column!r} holds {kind}, not vectors (lists of floats)")
    with reading(table.location):
        numbers = [group for group, _, _ in row_groups(table, span)]
        pages = [one for group in numbers for one in column_pages(table, group, [column])]
    held = VALUE_BYTES * sum(one.values for one in pages)
    check_unpacked(f"{table.location}: column {column!r}", held, table.packed)


def _parts(
    table: ParquetFile, column: str, span: tuple[int, int] | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Lengths of the lists (-1: null) and their numbers in a row, a batch at a time."""
    for group, _, _ in row_groups(table, span):
        for batch in batches(table, group, [column], BATCH_ROWS):
            lists = _lists(batch, column)
            yield _lengths(lists), lists.flatten().to_numpy(zero_copy_only=False)


def _lists(batch: pa.RecordBatch, column: str) -> pa.Array:
    lists = batch.column(column)
    while not is_list(lists.type):
        lists = lists.storage
    return lists


def _lengths(lists: pa.Array) -> np.ndarray:
    """Numbers in every row [n] int64, -1 for a null row (which flatten() would drop without a word)."""
    found = pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.int64)


def _why(row: int, length: int, width: int) -> str:
    if length < 0:
        return f"its embedding is missing (row {row})"
    return f"its embedding is of width {length}, others of width {width} (row {row})"
