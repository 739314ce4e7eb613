"""What the pages of a parquet column unpack to, read from their headers before anything is unpacked.

The footer says so too, but it was written by the same stranger and nothing holds the two together. Of a
header's fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

from clipscan.data.thrift import read_struct

DICTIONARY_PAGE = 2
TYPE, UNPACKED, PACKED, DATA, DATA_2 = 1, 2, 3, 5, 8  # fields of a PageHeader
VALUES = 1  # field of both kinds of DataPageHeader
HEADER_BYTES = 256  # what is tried first: usual headers have 20 to 100, those with statistics more
MAX_HEADER_BYTES = 16 << 20  # as in Arrow


class Pages(NamedTuple):
    """Bytes of the dictionary, of the largest page and of all pages, unpacked; values of the fullest page
    and of all."""

    dictionary: int = 0
    largest: int = 0
    unpacked: int = 0
    fullest: int = 0
    values: int = 0


def read_pages(stream: BinaryIO, start: int, length: int, values: int) -> Pages:
    """The pages of one column chunk of `values` values, at [start, start + length) of the file.

    Stops where Arrow stops: at the chunk's end or when its values are there. ValueError for what is no
    page header.
    """
    total = Pages()
    at, end = start, start + length
    while at < end and total.values < values:
        header, size = _header(stream, at)
        unpacked = header[UNPACKED]
        held = header.get(DATA, header.get(DATA_2, {})).get(VALUES, 0)
        if min(header[PACKED], unpacked, held) < 0:
            raise ValueError(f"the page at byte {at} has a negative size")
        total = Pages(
            max(total.dictionary, unpacked if header[TYPE] == DICTIONARY_PAGE else 0),
            max(total.largest, unpacked),
            total.unpacked + unpacked,
            max(total.fullest, held),
            total.values + held,
        )
        at += size + header[PACKED]
    return total


def _header(stream: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """The fields of the page header at byte `at`, and the bytes that it takes."""
    wanted = HEADER_BYTES
    while True:
        stream.seek(at)
        data = stream.read(wanted)
        try:
            header, size = read_struct(data)
            if {TYPE, UNPACKED, PACKED} <= header.keys():
                return header, size
            raise ValueError(f"no page header at byte {at}")
        except IndexError:  # cut off
            if len(data) < wanted or wanted >= MAX_HEADER_BYTES:
                raise ValueError(f"no page header at byte {at}") from None
            wanted *= 8
