"""Which columns of a parquet table hold pictures and captions, and what a cell holds.

Every column is either read or refused in words, whatever type Arrow gives it: plain, large and view types,
dictionaries of them, lists of any kind, extension types by what they are stored as.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from clipscan.data.pictures import MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from clipscan.data.text import (
    CAPTION_FIELDS,
    KEY_FIELDS,
    TAG_FIELDS,
    Unfit,
    caption_of,
    caption_text,
    json_object,
    printable,
)
from clipscan.errors import DataError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "bytes", "image_bytes")
JSON = "json"  # where webdataset keeps the metadata of a sample; `datasets` makes a struct of it
MAX_LIST = 16  # of a longer list the rest is not looked at
MAX_BASE64 = MAX_IMAGE_BYTES // 3 * 4


class Place(NamedTuple):
    """A column that holds captions, or JSON whose first field of these is one."""

    column: str
    fields: tuple[str, ...] = ()


class Captions(NamedTuple):
    """Where a table's captions lie: in a row, the first of the places that holds something."""

    places: tuple[Place, ...]

    def columns(self) -> list[str]:
        """The columns to read."""
        return [place.column for place in self.places]

    def of(self, row: Mapping[str, Any]) -> str:
        """The caption of a row; Unfit without one."""
        held = (place for place in self.places if row.get(place.column) is not None)
        place = next(held, self.places[0])
        if not place.fields:
            return caption_text(row.get(place.column))
        return caption_of(json_fields(row.get(place.column)), place.fields, f"column {place.column!r}")


def picture_column(schema: pa.Schema, forced: str | None) -> str:
    """The column of encoded pictures; DataError lists the columns, or refuses the forced one."""
    if forced is None:
        return choose(schema, None, picture_columns(schema), "picture", "--image-key")
    kind = column_type(schema, choose(schema, same_name(schema, forced), [], "picture", "--image-key"))
    if not (is_picture(kind) or is_text(kind) or pa.types.is_null(kind)):
        raise DataError(
            f"column {forced!r} holds {kind}; a picture is its encoded file (jpg, png ...) as binary, as a "
            "struct with the field bytes, or as base64 text"
        )
    return same_name(schema, forced) or forced


def caption_columns(schema: pa.Schema, forced: str | None) -> Captions:
    """Where the captions are: in a column known by name, in a webdataset's txt and json, or as forced.

    forced: a column, or as for tars `txt;json:prompt`. DataError lists the columns.
    """
    if forced is None:
        return Captions(_usual_places(schema))
    if forced in schema.names:
        return Captions((_place(schema, forced, ""),))
    asked = [part.partition(":") for part in forced.split(";")]
    named = [(same_name(schema, name), field) for name, _, field in asked]
    places = tuple(_place(schema, column, field) for column, field in named if column)
    return Captions(places or (Place(choose(schema, forced, [], "caption", "--text-key")),))


def _usual_places(schema: pa.Schema) -> tuple[Place, ...]:
    named = [column for name in CAPTION_FIELDS if (column := same_name(schema, name))]
    if usual := next((name for name in named if not pa.types.is_primitive(column_type(schema, name))), None):
        return (Place(usual),)
    txt, json = same_name(schema, "txt"), same_name(schema, JSON)
    places = [Place(txt)] if txt else []
    if json and (txt or _may_hold_captions(column_type(schema, json))):
        places.append(Place(json, CAPTION_FIELDS))
    return tuple(places) or (Place(choose(schema, None, [], "caption", "--text-key")),)


def _place(schema: pa.Schema, column: str, field: str) -> Place:
    kind = column_type(schema, column)
    if field or pa.types.is_struct(kind) or column.lower() == JSON:
        return Place(column, (field,) if field else CAPTION_FIELDS)
    if pa.types.is_primitive(kind):
        raise DataError(f"column {column!r} holds {kind}, not text; name another with --text-key")
    return Place(column)


def _may_hold_captions(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name in CAPTION_FIELDS for field in kind)
    return is_text(kind) or is_bytes(kind)


def choose(schema: pa.Schema, forced: str | None, found: Sequence[str], what: str, option: str) -> str:
    """The forced column if it exists, else the first found one; DataError lists the columns."""
    chosen = forced if forced in schema.names else None if forced or not found else found[0]
    if chosen is None:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        wanted = f"no column {forced!r}" if forced else f"no {what} column known by name"
        raise DataError(f"{wanted}; the table has {columns}: name one with {option}")
    column_type(schema, chosen)
    return chosen


def column_type(schema: pa.Schema, name: str) -> pa.DataType:
    """The type of a column as it is stored; DataError where two have the name."""
    if len(schema.get_all_field_indices(name)) > 1:
        raise DataError(f"the table has more than one column {name!r}; rename them")
    return stored(schema.field(name).type)


def same_name(schema: pa.Schema, name: str) -> str | None:
    """The column of that name, or the first that differs only in case (`datasets` keeps `a.JPG` as JPG)."""
    if name in schema.names:
        return name
    return next((column for column in schema.names if column.lower() == name.lower()), None)


def known_columns(schema: pa.Schema, *also: str) -> list[str]:
    """The columns with keys and tags, and those named besides: all that is ever read."""
    wanted = {*also, *KEY_FIELDS, *(name for names in TAG_FIELDS.values() for name in names)}
    found = [name for name in schema.names if name in wanted]
    for name in found:
        column_type(schema, name)  # refuses two of a name
    return found


def picture_columns(schema: pa.Schema) -> list[str]:
    """Columns that may hold encoded pictures, the likeliest first."""
    held = [field.name for field in schema if is_picture(stored(field.type))]
    usual = [name for wanted in IMAGE_COLUMNS for name in held if name.lower() == wanted]
    return list(dict.fromkeys(usual + held))


def stored(kind: pa.DataType) -> pa.DataType:
    """What a type is stored as: extension types and dictionaries taken off."""
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_picture(kind: pa.DataType) -> bool:
    """Binary, a struct with the field bytes, or a list of such."""
    kind = stored(kind)
    if is_list(kind):
        return not pa.types.is_fixed_size_list(kind) and _one_picture(stored(kind.value_type))
    return _one_picture(kind)


def _one_picture(kind: pa.DataType) -> bool:
    return is_bytes(kind) or bool(pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)


def is_vector(kind: pa.DataType) -> bool:
    """A list of floating point numbers; a tensor of one dimension is stored as one."""
    kind = stored(kind)
    return is_list(kind) and bool(pa.types.is_floating(kind.value_type))


def is_bytes(kind: pa.DataType) -> bool:
    """Binary of any length."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_text(kind: pa.DataType) -> bool:
    """Text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """A list of any kind."""
    types = pa.types
    plain = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(plain or types.is_list_view(kind) or types.is_large_list_view(kind))


def dictionaries(array: pa.Array) -> Iterator[pa.DictionaryArray]:
    """The arrays of dictionary type that an array consists of."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from dictionaries(array.storage)
    elif is_list(kind) or pa.types.is_map(kind):
        yield from dictionaries(array.values)
    elif pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            yield from dictionaries(array.field(i))
    elif pa.types.is_dictionary(kind):
        yield array


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
