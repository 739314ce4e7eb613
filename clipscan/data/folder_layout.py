"""How a folder of pictures is laid out: what lies beside a picture, and what one sample is made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from clipscan.data.csv_rows import QUOTING
from clipscan.data.dataset import stem
from clipscan.data.extensions import Rules
from clipscan.data.inventory import extension
from clipscan.data.text import printable


class FolderLayout(NamedTuple):
    """How a folder is read: from where, and by which rules."""

    root: str
    rules: Rules
    roots: tuple[str, ...] = ()  # further folders that pictures may lie in
    quoting: str = QUOTING[0]
    spelt: Mapping[str, str] = {}  # "0.txt" -> "0.TXT": captions whose suffix is not in small letters

    def beside(self, picture: str, *suffixes: str) -> list[str]:
        """Names of what may lie beside a picture: with these suffixes, or all that are ever read."""
        names = (
            f"{stem(picture)}.{ext}" for ext in suffixes or dict.fromkeys(("txt", "json", *self.rules.text))
        )
        return [self.spelt.get(name, name) for name in names]


class Entry(NamedTuple):
    """One sample to be: where its picture lies, what a metadata file says, or what is wrong with it."""

    picture: str  # relative to the root
    row: dict[str, Any] | None = None
    fault: str = ""
    where: str = ""  # "metadata.csv, row 3" if such a row names it; the key of a row without picture


def entry_key(entry: Entry) -> str:
    """A folder sample's key: the picture's path without extension, printable."""
    return printable(stem(entry.picture)) if entry.picture else entry.where


def odd_spellings(names: Collection[str], rules: Rules) -> dict[str, str]:
    """Captions whose suffix has capital letters, by the name that they would have without (as in tars)."""
    kinds = {"txt", "json", *rules.text}
    odd = {f"{stem(name)}.{extension(name)}": name for name in names if extension(name) in kinds}
    there = set(names)
    return {usual: name for usual, name in odd.items() if usual not in there}
