"""One JSON file for one run: sections, added as they are measured, so a run cut short leaves what it had."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def read(file: Path) -> dict[str, Any]:
    """Section -> what it holds; empty where there is no file yet."""
    return dict(json.loads(file.read_text())) if file.exists() else {}


def put(file: Path, section: str, value: Any) -> None:
    """Sets a section. The file is replaced as a whole: it is readable at any moment."""
    text = json.dumps(read(file) | {section: value}, indent=1, default=float)  # NumPy's numbers too
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_text(text)
    os.replace(part, file)


def add(file: Path, section: str, row: Any) -> None:
    """One more row at the end of a section that is a list."""
    put(file, section, [*read(file).get(section, []), row])


if (
    __name__ == "__main__"
):  # python clipscan/bench/records.py FILE SECTION NAME TEXT: needs nothing that must be built
    file, section, name, text = Path(sys.argv[1]), *sys.argv[2:]
    put(file, section, read(file).get(section, {}) | {name: text})
