"""Shell braces: `{00000..00331}.tar`, `{train,val}/{0..9}.tar`, as webdataset users write them."""

from __future__ import annotations

import re
from itertools import product

from clipscan.errors import InputError

MAX_NAMES = 1_000_000  # {0..999999999} is a typing error, and would fill the memory

_RANGE = re.compile(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.(-?\d+))?")


def expand_braces(pattern: str) -> list[str]:
    """Every name the pattern stands for, in order, as bash would write them.

    Ranges keep leading zeros and may run downwards or in steps; letters work; braces nest.
    Unbalanced braces, `{}` and `{word}` stand for themselves. More than MAX_NAMES: InputError.
    """
    opening, closing = _first_pair(pattern)
    if opening < 0:
        return [pattern]
    head, body, tail = pattern[:opening], pattern[opening + 1 : closing], pattern[closing + 1 :]
    choices, tails = _choices(body), expand_braces(tail)
    if len(choices) * len(tails) > MAX_NAMES:
        raise InputError(f"{pattern!r} stands for more than {MAX_NAMES:,} names; is the range right?")
    return [head + choice + rest for choice, rest in product(choices, tails)]


def _first_pair(pattern: str) -> tuple[int, int]:
    """Positions of the first brace that is closed, and of its closing one; (-1, -1) if none is."""
    open_at: list[int] = []
    pairs: dict[int, int] = {}
    for at, char in enumerate(pattern):
        if char == "{":
            open_at.append(at)
        elif char == "}" and open_at:
            pairs[open_at.pop()] = at
    return min(pairs.items(), default=(-1, -1))


def _choices(body: str) -> list[str]:
    """What one pair of braces stands for."""
    if steps := _RANGE.fullmatch(body):
        return _range(body, *steps.groups())
    parts = _split(body)
    if len(parts) == 1:  # bash leaves {word} alone, but looks inside
        return ["{" + inner + "}" for inner in expand_braces(body)]
    return [name for part in parts for name in expand_braces(part)]


def _range(body: str, first: str, last: str, step: str | None) -> list[str]:
    if first.isalpha() != last.isalpha():
        return ["{" + body + "}"]
    low, high = (ord(first), ord(last)) if first.isalpha() else (int(first), int(last))
    stride = abs(int(step or 1)) or 1
    if abs(high - low) // stride >= MAX_NAMES:
        raise InputError(f"{{{body}}} stands for more than {MAX_NAMES:,} names; is the range right?")
    numbers = range(low, high + 1, stride) if low <= high else range(low, high - 1, -stride)
    if first.isalpha():
        return [chr(number) for number in numbers]
    padded = any(end.lstrip("-").startswith("0") and end.lstrip("-") != "0" for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [f"{number:0{width}d}" for number in numbers]


def _split(body: str) -> list[str]:
    """Cut at the commas that are not inside inner braces."""
    parts, depth = [""], 0
    for char in body:
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts
