"""A parquet file without some of its rows: its schema, row groups and compression stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.data.arrow_types import dictionaries
from clipscan.data.guard import check_unpacked, reading
from clipscan.data.parquet_files import (
    PARQUET_ERRORS,
    ParquetFile,
    batches,
    listed_texts,
    open_parquet_file,
    row_groups,
)
from clipscan.errors import DataError

BATCH_ROWS = 65_536
GROUP_BYTES = 1 << 30  # of a row group in memory; one that is larger, unpacked, becomes several


def filter_parquet(path: str, to: Path, rows: np.ndarray) -> None:
    """Write these rows [kept] int64, ascending. DataError if a row group with such rows is broken."""
    try:
        _check_lists(path, rows)
        with open_parquet_file(path, as_stored=True) as table:
            schema = table.schema_arrow
            with pq.ParquetWriter(to, schema, compression=_compression(table)) as writer:
                for group, begin, end in row_groups(table, None):
                    here = rows[slice(*np.searchsorted(rows, (begin, end)))] - begin
                    for part in _parts(table, group, here):
                        writer.write_table(part, row_group_size=len(part))
    except PARQUET_ERRORS as error:
        raise DataError(f"cannot write {path} without some rows: {error}") from error


def _parts(table: ParquetFile, group: int, rows: np.ndarray) -> Iterator[pa.Table]:
    """The rows of a row group, as one table where it is not too large."""
    kept: list[pa.RecordBatch] = []
    at = size = 0
    for batch in batches(table, group, None, BATCH_ROWS) if len(rows) else ():
        inside = rows[slice(*np.searchsorted(rows, (at, at + batch.num_rows)))] - at
        at += batch.num_rows
        taken = _taken(batch, inside) if len(inside) else []
        kept += taken
        size += sum(part.nbytes for part in taken)
        if size > GROUP_BYTES:
            yield pa.Table.from_batches(kept)
            kept, size = [], 0
    if kept:
        yield pa.Table.from_batches(kept)


def _taken(batch: pa.RecordBatch, rows: np.ndarray) -> list[pa.RecordBatch]:
    """The rows of a batch; where Arrow cannot take them (views of text), as slices."""
    with suppress(NotImplementedError):
        return [batch.take(pa.array(rows))]
    cuts = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    return [batch.slice(int(rows[a]), b - a) for a, b in pairwise(cuts) if b > a]


def _check_lists(path: str, rows: np.ndarray) -> None:
    """DataError where lists of text, which one row may hold without end, unpack to more than is read.

    They are looked at with their dictionaries in place, before they are read as they are stored.
    """
    with open_parquet_file(path) as table:
        listed = listed_texts(table.metadata)
        unpacked = 0
        for group, begin, end in row_groups(table, None):
            if listed and ((rows >= begin) & (rows < end)).any():
                for batch in batches(table, group, listed, BATCH_ROWS):
                    unpacked += sum(map(_listed_bytes, batch.columns))
                    check_unpacked(path, unpacked, table.packed, GROUP_BYTES)


def _listed_bytes(array: pa.Array) -> int:
    """Bytes of the texts in an array of lists, one for each time that it is named."""
    sizes = (pc.binary_length(one.dictionary).take(one.indices) for one in dictionaries(array))
    return sum(pc.sum(size).as_py() or 0 for size in sizes)


def _compression(table: ParquetFile) -> dict[str, str] | str:
    """Column path -> codec, as the first row group has it."""
    if not table.num_row_groups:
        return "snappy"
    with reading(table.location):
        paths = [table.metadata.schema.column(i).path for i in range(table.metadata.num_columns)]
        return {path: chunk.codec for path, chunk in zip(paths, table.chunks[0], strict=True)}
