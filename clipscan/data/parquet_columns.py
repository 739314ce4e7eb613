"""Which columns of a parquet table hold pictures and captions.

Every column is either read or refused in words, whatever type Arrow gives it (arrow_types.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from clipscan.data.arrow_types import is_bytes, is_picture, is_text, stored
from clipscan.data.parquet_cells import json_fields
from clipscan.data.text import CAPTION_FIELDS, KEY_FIELDS, TAG_FIELDS, caption_of, caption_text
from clipscan.errors import DataError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "bytes", "image_bytes")
JSON = "json"  # where webdataset keeps the metadata of a sample; `datasets` makes a struct of it


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
