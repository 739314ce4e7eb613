"""What a cell of a parquet table holds: a value as Python's, JSON fields, an encoded picture.

A cell that cannot be used is Unfit, with the reason.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from clipscan.data.arrow_types import is_list
from clipscan.data.pictures import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from clipscan.data.text import Unfit, json_object, printable

MAX_LIST = 16  # of a longer list the rest is not looked at
MAX_BASE64 = MAX_IMAGE_BYTES // 3 * 4


def cell(value: pa.Scalar) -> Any:
    """A cell as Python's: text that is not UTF-8 as bytes, of a list the head, None for what Python lacks."""
    if isinstance(value, pa.ExtensionScalar):
        return cell(value.value) if value.is_valid else None
    if not value.is_valid:
        return None
    if isinstance(value, pa.StructScalar) and len(set(value.type.names)) == len(value.type):
        return {name: cell(value[name]) for name in value.type.names}
    if is_list(value.type):
        return [cell(one) for one in value.values[:MAX_LIST]]
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return bytes(value.as_buffer()) if hasattr(value, "as_buffer") else None
    except (ValueError, OverflowError, TypeError, KeyError, pa.ArrowException):  # a date of the year 300,000
        return None


def weight(value: Any) -> int:
    """Bytes that a cell's texts and pictures have, about."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(map(weight, value.values()))
    return sum(map(weight, value)) if isinstance(value, list) else 0


def json_fields(value: object) -> Mapping[str, Any]:
    """A struct's fields, or those of JSON text; Unfit where it is neither, {} for null."""
    if isinstance(value, (str, bytes)):
        if len(value) > MAX_TEXT_BYTES:
            raise Unfit(f"json has {len(value):,} characters, the limit is {MAX_TEXT_BYTES:,}")
        return json_object(value, "json")
    if value is not None and not isinstance(value, dict):
        raise Unfit(f"json is of type {type(value).__name__}, not an object")
    return value or {}


def picture(value: object) -> bytes:
    """The encoded picture of a cell; Unfit says why there is none."""
    if isinstance(value, list):
        if len(value) > 1:
            raise Unfit("the row holds more than one picture; a pair has one")
        value = value[0] if value else None
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            raise Unfit(f"the row only names {printable(str(value['path']))!r}; such files are not read")
        value = value.get("bytes")
    if value is None:
        raise Unfit("picture is missing")
    if isinstance(value, str):
        value = _from_base64(value)
    if not isinstance(value, bytes):
        raise Unfit(f"picture is of type {type(value).__name__}, not bytes")
    if not value:
        raise Unfit("picture is empty (0 bytes)")
    if len(value) > MAX_IMAGE_BYTES:
        raise Unfit(f"picture has {len(value):,} bytes, the limit is {MAX_IMAGE_BYTES:,}")
    return value


def _from_base64(text: str) -> bytes:
    """The bytes of base64 text, plain or as in a data: URL."""
    if len(text) > MAX_BASE64:
        raise Unfit(f"picture has {len(text):,} characters of base64, the limit is {MAX_BASE64:,}")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unfit("picture is text that is not base64; files that a table names are not read") from None
