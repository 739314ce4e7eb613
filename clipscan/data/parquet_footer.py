"""Where the columns of a parquet file's row groups lie, read from its footer.

pyarrow says so too, but its `RowGroupMetaData.column` ends the whole process (std::terminate, seen with 26.0)
where a footer's size statistics do not fit its schema; opening and reading such a file only raises.
Fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from clipscan.data.thrift import read_struct

MAX_FOOTER = 64 << 20  # bytes; 10,000 row groups of 20 columns have some 30 MB
CODECS = ("NONE", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4")

ROW_GROUPS, COLUMNS, META = 4, 1, 3
CODEC, VALUES, UNPACKED, PACKED, DATA_AT, DICTIONARY_AT = 4, 5, 6, 7, 9, 11


class Chunk(NamedTuple):
    """A column in a row group: its pages lie at [start, start + packed)."""

    start: int
    packed: int
    unpacked: int
    values: int
    codec: str


def read_chunks(stream: BinaryIO) -> list[list[Chunk]]:
    """For each row group its columns, as the schema orders its leaves; ValueError for what is none."""
    end = stream.seek(0, 2)
    stream.seek(max(end - 8, 0))
    size = int.from_bytes(stream.read(8)[:4], "little")
    if not 0 < size <= min(end, MAX_FOOTER):
        raise ValueError(f"the footer has {size:,} bytes, the limit is {min(end, MAX_FOOTER):,}")
    stream.seek(end - 8 - size)
    try:
        footer, _ = read_struct(stream.read(size))
        return [[_chunk(c[META]) for c in group[COLUMNS]] for group in footer.get(ROW_GROUPS, [])]
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("the footer is not whole") from error


def _chunk(meta: dict[int, int]) -> Chunk:
    start = min(meta[DATA_AT], meta.get(DICTIONARY_AT) or meta[DATA_AT])
    if min(start, meta[PACKED], meta[UNPACKED], meta[VALUES]) < 0:
        raise ValueError("the footer has negative sizes")
    return Chunk(start, meta[PACKED], meta[UNPACKED], meta[VALUES], CODECS[meta[CODEC]])
