"""Strangers' text made safe to look at: what is hidden becomes visible, what is long is cut.

Escaping for HTML is Jinja's; `visible` returns Markup, whose pieces it has escaped itself.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator

from markupsafe import Markup, escape

NAMED = {"\n": "↵", "\r": "␍", "\t": "⇥", "\0": "␀", "\x1b": "␛"}

# Blank though their category says letter, mark or symbol; and marks that only select or smuggle.
_BLANK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi, zero width, separators
MARKS_IN_A_ROW = 3  # combining marks on one letter; more only serves to paint over neighbours


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the last an ellipsis where text was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def visible(text: str, limit: int = 240) -> Markup:
    """HTML of `text`, cut to `limit` characters; hidden characters as a boxed name, `U+202E`."""
    pieces = (_piece(char, name) for char, name in _named(shorten(text, limit)))
    return Markup("").join(pieces)


def plain(text: str, limit: int = 2000) -> str:
    """The same for places without markup (a title): hidden characters as [U+202E]."""
    return "".join(f"[{name}]" if name else char for char, name in _named(shorten(text, limit)))


def _piece(char: str, name: str) -> Markup:
    return Markup('<span class="hidden">{}</span>').format(name) if name else escape(char)


def _named(text: str) -> Iterator[tuple[str, str]]:
    """(character, "") for what can be seen, (character, its name) for what cannot; repeats counted."""
    marks = 0
    for char, run in itertools.groupby(text):
        times = len(list(run))
        marks = marks + times if unicodedata.category(char) in ("Mn", "Me") else 0
        if is_hidden(char) or marks > MARKS_IN_A_ROW:
            yield char, (NAMED.get(char) or f"U+{ord(char):04X}") + (f" × {times}" if times > 1 else "")
        else:
            yield from [(char, "")] * times


def is_hidden(char: str) -> bool:
    """Whether the character does something without being seen."""
    if " " <= char <= "~":
        return False
    code = ord(char)
    variation = 0xFE00 <= code <= 0xFE0D or 0xE0100 <= code <= 0xE01EF  # FE0E, FE0F choose emoji style
    return unicodedata.category(char) in _HIDDEN_CATEGORIES or code in _BLANK or variation


def count(value: object) -> str:
    """12345 -> '12,345'; '–' for what is not known."""
    return f"{value:,}" if isinstance(value, int) else "–"


def number(value: object) -> str:
    """A score in four significant digits, trailing zeros kept: 4.670. Exponents only far from 1."""
    if not isinstance(value, (int, float)) or value != value:
        return "–"
    if 1e4 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".") if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"


def percent(part: float, whole: float) -> str:
    """A share: '0.50 %', '12 %'; '–' of nothing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"
