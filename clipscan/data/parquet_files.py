"""Parquet files: opened, cut into shards, and read row by row in bounded memory.

A batch of rows is in memory at a time, and the pages that it lies in; what a file may unpack to is checked
before (guard.py). DataError for all that cannot be read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.data.arrow_types import dictionaries
from clipscan.data.dataset import Shard
from clipscan.data.guard import UNPACKED_FREE, check_unpacked, reading
from clipscan.data.inventory import File, is_url, open_binary
from clipscan.data.parquet_cells import cell, weight
from clipscan.data.parquet_footer import Chunk, read_chunks
from clipscan.data.parquet_pages import Pages, read_pages
from clipscan.errors import DataError

PARQUET_ERRORS = (OSError, pa.ArrowException, EOFError, UnicodeDecodeError)  # the last: column names
ROWS_FREE = 1 << 20  # rows that any file may declare; beyond that, one row a byte
BATCH_BYTES = 128 << 20  # a batch of rows may unpack to, where they share values of a dictionary
BUFFER_BYTES = 1 << 20  # of a column at a time; without a buffer Arrow reads all of it in a row group
LEVEL_BYTES = 16  # Arrow takes for a value of a list, be it null
REMOTE_BYTES = 4 << 20  # page headers lie all over a column; of a larger remote one the footer is believed


class ParquetFile(pq.ParquetFile):
    """An open parquet file, with its location and its size."""

    location: str
    stream: BinaryIO
    packed: int  # bytes

    @cached_property
    def chunks(self) -> list[list[Chunk]]:
        """For each row group, where its columns lie."""
        return read_chunks(self.stream)


@contextmanager
def open_parquet_file(location: str, *, as_stored: bool = False) -> Iterator[ParquetFile]:
    """A parquet file, local or remote; DataError if it is none or declares more rows than bytes can hold.

    Lists of text come with their dictionaries in place, unless `as_stored`: of those one row may name a
    text a million times. In other columns a row holds one value, and `batches` bounds the rows.
    """
    with reading(location):
        stream = open_binary(location)
    with stream:
        with reading(location):
            about = pq.read_metadata(stream)
            table = ParquetFile(
                stream,
                metadata=about,
                read_dictionary=[] if as_stored else listed_texts(about),
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
            )
            table.location, table.stream, table.packed = location, stream, stream.seek(0, 2)
            _ = table.schema_arrow.names  # decodes them, here where it may fail
            _check_rows(table)
        yield table


def listed_texts(about: pq.FileMetaData) -> list[str]:
    """Leaves of lists of text or bytes."""
    leaves = [about.schema.column(i) for i in range(about.num_columns)]
    return [leaf.path for leaf in leaves if leaf.max_repetition_level and leaf.physical_type == "BYTE_ARRAY"]


def _check_rows(table: ParquetFile) -> None:
    starts = group_starts(table)
    if any(begin > end for begin, end in pairwise(starts)):
        raise DataError(f"{table.location} declares a negative number of rows")
    if starts[-1] > max(ROWS_FREE, table.packed):
        held = f"{starts[-1]:,} rows in {table.packed:,} bytes"
        raise DataError(f"{table.location} declares {held}; more than one row a byte is not read")


def table_rows(
    table: ParquetFile,
    columns: list[str],
    span: tuple[int, int] | None,
    batch_rows: int,
    only: Mapping[int, str] | None = None,
    free: int = UNPACKED_FREE,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, row) of a slice that begins at a row group; with `only`, other rows are skipped.

    Row groups without a wanted row are not read. Text that is not UTF-8 comes as bytes. DataError where
    the rows together hold more than guard.check_unpacked allows, of which `free` bytes in any case.
    """
    unpacked = 0
    for group, begin, end in row_groups(table, span):
        if only is not None and not any(begin <= at < end for at in only):
            continue
        at = begin
        for batch in batches(table, group, columns, batch_rows):
            for i in range(batch.num_rows):
                if only is None or at + i in only:
                    row = {name: cell(batch.column(c)[i]) for c, name in enumerate(batch.schema.names)}
                    unpacked += weight(row)
                    check_unpacked(table.location, unpacked, table.packed, free)
                    yield at + i, row
            at += batch.num_rows


def batches(table: ParquetFile, group: int, columns: list[str] | None, most: int) -> Iterator[pa.RecordBatch]:
    """The columns (None: all) of a row group, at most `most` rows at a time, fewer of large values."""
    with reading(table.location):
        pages = column_pages(table, group, columns)
        for one in pages:
            check_unpacked(table.location, max(one.largest, LEVEL_BYTES * one.fullest), table.packed)
        largest = max((one.dictionary for one in pages), default=0)  # a value of it in every row
        rows = min(most, max(1, BATCH_BYTES // max(largest, 1)))
        for batch in table.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
            for dictionary in (one for column in batch.columns for one in dictionaries(column)):
                _check_indices(dictionary)
            yield batch


def _check_indices(array: pa.DictionaryArray) -> None:
    """ValueError for an index beyond its dictionary: Arrow lets it pass, and writing it ends the process."""
    found = pc.min_max(array.indices).as_py()
    if found["min"] is not None and not 0 <= found["min"] <= found["max"] < len(array.dictionary):
        raise ValueError("a value beyond the end of its dictionary is named")


def column_pages(table: ParquetFile, group: int, columns: Collection[str] | None) -> list[Pages]:
    """What the pages of the columns' leaves unpack to."""
    return [_pages(table, group, leaf) for leaf in leaves(table, columns)]


def leaves(table: ParquetFile, columns: Collection[str] | None) -> list[int]:
    """Numbers of the physical columns that the columns (None: all) consist of."""
    if columns is None:
        return list(range(table.metadata.num_columns))
    paths = [table.metadata.schema.column(i).path for i in range(table.metadata.num_columns)]
    return [i for i, path in enumerate(paths) if path in columns or path.split(".", 1)[0] in columns]


def _pages(table: ParquetFile, group: int, leaf: int) -> Pages:
    chunk = table.chunks[group][leaf]
    if not is_url(table.location) or chunk.packed <= REMOTE_BYTES:
        return read_pages(table.stream, chunk.start, chunk.packed, chunk.values)
    first = read_pages(table.stream, chunk.start, 1, chunk.values)
    return Pages(first.dictionary, first.largest, chunk.unpacked, 0, chunk.values)


def row_groups(table: ParquetFile, span: tuple[int, int] | None) -> Iterator[tuple[int, int, int]]:
    """(number, first row, last row + 1) of the row groups of a slice that begins at one."""
    starts = group_starts(table)
    first, stop = span or (0, starts[-1])
    for group, (begin, end) in enumerate(pairwise(starts)):
        if first <= begin < stop:
            yield group, begin, end


def group_starts(table: pq.ParquetFile) -> list[int]:
    """First row of every row group, and last the number of rows."""
    starts = [0]
    for group in range(table.num_row_groups):
        starts.append(starts[-1] + table.metadata.row_group(group).num_rows)
    return starts


def parquet_shards(file: File, name: str, rows_per_shard: int) -> list[Shard]:
    """One file as shards of whole row groups, at least rows_per_shard rows each but the last."""
    try:
        with open_parquet_file(file.path) as table:
            starts = group_starts(table)
    except DataError:
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
                return table.schema_arrow
        except DataError as error:
            reason = str(error)
    raise DataError(f"no parquet file can be read ({reason})")
