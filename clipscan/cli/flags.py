"""Messages of the library in the words of the command line: `share=0.85` is `--share 0.85` there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


def as_flags(message: str, command: Any) -> str:
    """`message` with NAME=VALUE written --NAME VALUE wherever a command below `command`, a click command, has
    an option of that name."""
    names = {name.removeprefix("--").replace("-", "_"): name for name in _options(command)}

    def flag(found: re.Match[str]) -> str:
        name = names.get(found["name"])
        return f"{name} {found['value']}" if name else found[0]

    return re.sub(r"(?<![\w.\-/'\"])(?P<name>[a-z]\w*)=(?P<value>[^\s=])", flag, message)


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from (name for name in parameter.opts if name.startswith("--"))
    for below in getattr(command, "commands", {}).values():
        yield from _options(below)
