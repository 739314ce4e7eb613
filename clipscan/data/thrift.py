"""Thrift's compact protocol, as far as parquet's headers and footer need it: numbers, structs and lists.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12


def read_struct(data: bytes, at: int = 0) -> tuple[dict[int, Any], int]:
    """The fields of the struct at `at`, by number, and where it ends. Texts and fractions are None.

    IndexError where the data ends before it does, ValueError or RecursionError for what is no struct.
    """
    fields: dict[int, Any] = {}
    field = 0
    while (head := data[at]) != _STOP:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _integer(data, at)
        if head & 15 in (_TRUE, _FALSE):  # a flag is in its head
            fields[field] = head & 15 == _TRUE
        else:
            fields[field], at = _value(data, at, head & 15)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == _BINARY:
        size, at = _varint(data, at)
        if at + size > len(data):
            raise IndexError("text beyond the end")
        return None, at + size
    if kind == _STRUCT:
        return read_struct(data, at)
    if kind in (_LIST, _SET):
        return _list(data, at)
    if kind in (_TRUE, _FALSE, _BYTE):  # flags, as members of a list
        return data[at], at + 1
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _MAP:
        raise ValueError("parquet has no maps in its headers")
    return _integer(data, at)


def _list(data: bytes, at: int) -> tuple[list[Any], int]:
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    values = []
    for _ in range(size):
        value, at = _value(data, at, kind)
        values.append(value)
    return values, at


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
    raise ValueError("a number does not end")
