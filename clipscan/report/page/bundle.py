"""The style sheets and scripts of the page, as one each, and the policy that allows them by their hashes.

js/ holds plain ES modules. A page opened from a file cannot import modules, so they are put one behind the
other, each after those that it imports from, inside one function; their top-level names are distinct.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from clipscan.report.visible_text import is_hidden

HERE = Path(__file__).parent
FIRST = "main.js"
HERALD = 'document.documentElement.classList.add("js");'  # in the head: the review will take over
IMPORT = re.compile(r'^import [^;]*? from "\./([\w]+\.js)";\n', re.M)
EXPORT = re.compile(r"^export ", re.M)
MARKUP = re.compile("[<>&]")
UNUSUAL = re.compile(r"[^\x00-\x7e]")


def style(*, triggers: bool = False) -> str:
    """The style sheet; with that of recovered triggers where there are some."""
    sheets = ["page.css", "review.css", "map.css"] + (["triggers.css"] if triggers else [])
    return "".join((HERE / sheet).read_text(encoding="utf-8") for sheet in sheets if (HERE / sheet).exists())


@cache
def script() -> str:
    """All modules as one script."""
    parts = [EXPORT.sub("", IMPORT.sub("", _source(name))) for name in modules()]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def modules() -> list[str]:
    """The modules that the first one needs, each after those that it imports from. ValueError for a cycle."""
    ordered: list[str] = []
    under_way: list[str] = []

    def visit(name: str) -> None:
        if name in under_way:
            raise ValueError(f"modules import each other: {[*under_way, name]}")
        if name not in ordered:
            under_way.append(name)
            for needed in IMPORT.findall(_source(name)):
                visit(needed)
            ordered.append(under_way.pop())

    visit(FIRST)
    return ordered


def _source(name: str) -> str:
    return (HERE / "js" / name).read_text(encoding="utf-8")


def policy(style: str, script: str, *, served: bool = False) -> str:
    """The Content-Security-Policy of a page with this style sheet and this script. served: it may ask its own
    server for pictures and data."""
    pictures, more = ("data: 'self'", "connect-src 'self'; ") if served else ("data:", "")
    scripts = f"'{_digest(HERALD)}' '{_digest(script)}'"
    return (
        f"default-src 'none'; img-src {pictures}; style-src '{_digest(style)}'; script-src {scripts}; "
        f"{more}require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def json_block(data: Any) -> str:
    """JSON that cannot end the element it stands in, and hides nothing: <, >, & and hidden characters are
    escaped."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = MARKUP.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return UNUSUAL.sub(lambda found: _escaped(found[0]), text)


@cache
def _escaped(char: str) -> str:
    if not is_hidden(char):
        return char
    return "".join(
        f"\\u{unit:04x}" for unit in memoryview(char.encode("utf-16-le", "surrogatepass")).cast("H")
    )
