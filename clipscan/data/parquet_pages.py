"""What the pages of a parquet column unpack to, read from their headers before anything is unpacked.

The footer says so too, but it was written by the same stranger and nothing holds the two together. A page's
header is a Thrift struct in the compact protocol: https://parquet.apache.org/docs/file-format/data-pages/,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any, BinaryIO, NamedTuple

DICTIONARY_PAGE = 2
TYPE, UNPACKED, PACKED, DATA, DATA_2 = 1, 2, 3, 5, 8  # fields of a PageHeader
VALUES = 1  # field of both kinds of DataPageHeader
HEADER_BYTES = 256  # what is tried first: usual headers have 20 to 100, those with statistics more
MAX_HEADER_BYTES = 16 << 20  # as in Arrow

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


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
            header, size = _struct(data, 0)
            if {TYPE, UNPACKED, PACKED} <= header.keys():
                return header, size
            raise ValueError(f"no page header at byte {at}")
        except IndexError:  # cut off
            if len(data) < wanted or wanted >= MAX_HEADER_BYTES:
                raise ValueError(f"no page header at byte {at}") from None
            wanted *= 8


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    field = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _integer(data, at)
        fields[field], at = _value(data, at, head & 15)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    """A value of a struct; only integers and structs are kept, the others are stepped over."""
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind == _BYTE:
        return data[at], at + 1
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        size, at = _varint(data, at)
        return None, at + size
    if kind == _STRUCT:
        return _struct(data, at)
    if kind in (_LIST, _SET, _MAP):
        raise ValueError("a page header holds no lists")
    return _integer(data, at)


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag integer and where it ends."""
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number of a page header does not end")
