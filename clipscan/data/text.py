"""Text from strangers: captions, names, JSON. Here it becomes plain valid Unicode or a reason.

Everything raises Unfit, which the readers turn into the Bad of that one sample.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

MAX_CAPTION_CHARS = 65_536  # an encoder reads 77 tokens; 10,000 of these still fit in memory
MAX_TAG_CHARS = 8_192  # a longer url or uid is dropped, not a reason to lose the sample
SHOWN_FIELDS = 16  # named in a message, each by at most as many characters as the next line says
SHOWN_CHARS = 40

CAPTION_FIELDS = (
    "caption", "text", "title", "TEXT", "description", "alt", "prompt", "captions", "texts",
)  # fmt: skip
KEY_FIELDS = ("key", "__key__", "uid", "id")
TAG_FIELDS = {"uid": ("uid",), "sha256": ("sha256", "SHA256"), "url": ("url", "URL")}


_ODD = ("Cc", "Cs", "Zl", "Zp")  # controls, surrogates, line and paragraph separators


class Unfit(Exception):
    """Why one sample cannot be read; its text becomes the Bad's reason."""


def caption_of(row: Mapping[str, Any], names: Sequence[str], what: str) -> str:
    """The caption in the first of the named fields; Unfit says which ones `what` has where none is there."""
    if (value := first_field(row, names)) is None:
        raise no_caption(row, what)
    return caption_text(value)


def no_caption(row: Mapping[str, Any], what: str) -> Unfit:
    """That none of the fields of `what` holds a caption."""
    return Unfit(f"caption is missing: {what} has {shown_fields(row)}; --text-key names another field")


def shown_fields(row: Mapping[str, Any]) -> str:
    """'the fields a, b and 3 more', for a message."""
    names = [name[:SHOWN_CHARS] for name in islice(row, SHOWN_FIELDS)]
    more = f" and {len(row) - len(names):,} more" if len(row) > len(names) else ""
    return f"the fields {', '.join(names)}{more}" if names else "no fields"


def caption_text(value: Any) -> str:
    """A caption as every reader hands it on: valid Unicode, white space at its ends removed.

    Of a list of captions (COCO, Flickr30k) the first is taken, and of MetaCLIP's pairs [field, text] the
    first one's text. Missing, empty, overlong, not text and not UTF-8 are Unfit.
    """
    if _is_list(value):
        value = value[0] if value else None
        if _is_list(value) and len(value) == 2:
            value = value[1]
    if value is None:
        raise Unfit("caption is missing")
    if isinstance(value, bytes):
        value = decode(value, "caption")
    if not isinstance(value, str):
        raise Unfit(f"caption is of type {type(value).__name__}, not text")
    caption = value.strip()
    if not caption:
        raise Unfit("caption is empty")
    if len(caption) > MAX_CAPTION_CHARS:
        raise Unfit(f"caption has {len(caption):,} characters, the limit is {MAX_CAPTION_CHARS:,}")
    if not caption.isascii() and _has_surrogates(caption):
        raise Unfit("caption is not valid Unicode (undecodable bytes or half a surrogate pair)")
    return caption


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def decode(data: bytes, what: str) -> str:
    """UTF-8 bytes to text, a byte order mark dropped; Unfit names the first byte that is wrong."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfit(f"{what} is not UTF-8: byte 0x{data[error.start]:02x} at {error.start}") from None


def json_object(data: bytes | str, what: str) -> dict[str, Any]:
    """A JSON object; Unfit for anything else, a nesting bomb included."""
    text = decode(data, what) if isinstance(data, bytes) else data
    try:
        value = json.loads(text)
    except RecursionError:
        raise Unfit(f"{what} is nested too deeply") from None
    except ValueError as error:  # also integers of more digits than Python converts
        raise Unfit(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unfit(f"{what} is a JSON {type(value).__name__}, not an object")
    return value


def first_field(row: Mapping[str, Any], names: Sequence[str]) -> object:
    """The first of the named fields that is there and not null, else None."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def tags(row: Mapping[str, Any]) -> dict[str, str]:
    """uid, sha256 and url of a metadata row, "" where absent; hand to Sample(**tags(row), ...)."""
    return {tag: tag_text(first_field(row, names)) for tag, names in TAG_FIELDS.items()}


def tag_text(value: object) -> str:
    """A short identifier as text: integers become their digits, what is unusable becomes ""."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 256:
        value = str(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str) or len(value) > MAX_TAG_CHARS:
        return ""
    return printable(value)


def printable(name: str) -> str:
    r"""A name that is valid Unicode on one line: control characters and undecodable bytes as \xff."""
    if name.isprintable():
        return name
    return "".join(_escape(char) if unicodedata.category(char) in _ODD else char for char in name)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape's form of one undecodable byte
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _has_surrogates(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
