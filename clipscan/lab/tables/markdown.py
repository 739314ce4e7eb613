"""Rows into Markdown: means over seeds, intervals, tables whose best figure is bold."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

Row = dict[str, Any]

CASE = ("dataset", "attack", "target", "options", "rate", "model", "epoch")
CASE_HEAD = ["attack", "target", "rate", "data", "model, epochs"]


def cases(rows: Iterable[Row], by: Sequence[str] = CASE) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by what they share, ascending; of a CASE the rows are those of its seeds."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in by)].append(row)
    return {key: groups[key] for key in sorted(groups)}


def about(row: Row) -> list[str]:
    """The case of a row, under CASE_HEAD."""
    options = ", ".join(f"{name} {value}" for name, value in json.loads(row["options"] or "{}").items())
    attack = f"{row['attack']} ({options})" if options else row["attack"]
    model = f"{row['model']}, {row['epoch']}"
    return [attack, row["target"], f"{100 * row['rate']:.3g} %", row["dataset"], model]


def mean(rows: Iterable[Row], name: str, digits: int = 3) -> str:
    """The mean of a column over the rows that have it, "" for none."""
    values = [row[name] for row in rows if row[name] is not None]
    return f"{fmean(values):,.{digits}f}" if values else ""


def with_interval(rows: Sequence[Row]) -> str:
    """Mean AUROC and, in brackets, the lowest lower and the highest upper end of the intervals."""
    if not rows:
        return ""
    low, high = min(row["auroc_low"] for row in rows), max(row["auroc_high"] for row in rows)
    return f"{fmean(row['auroc'] for row in rows):.3f} ({low:.3f}–{high:.3f})"


def table(head: Sequence[str], body: Iterable[Sequence[str]], compare: int | None = None) -> str:
    """A table, "" without a body. From column `compare` on the highest leading figure of a row is bold."""
    lines = [_bold(row, compare) for row in body]
    return "\n".join(map(_line, [head, ["---"] * len(head), *lines])) if lines else ""


def section(title: str, text: str) -> str:
    """A heading and its text, "" where there is none."""
    return f"## {title}\n\n{text}" if text else ""


def page(title: str, what: str, *parts: str) -> str:
    """A page with the parts that hold something, "" where none does."""
    held = [part for part in parts if part]
    return "\n\n".join([f"# {title}", what, *held]) if held else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _bold(row: Sequence[str], compare: int | None) -> list[str]:
    if compare is None:
        return list(row)
    worth = [_leading(cell) if at >= compare else math.nan for at, cell in enumerate(row)]
    best = max((value for value in worth if not math.isnan(value)), default=None)
    return [f"**{cell}**" if value == best else cell for cell, value in zip(row, worth, strict=True)]


def _leading(cell: str) -> float:
    return float(cell.split()[0].replace(",", "")) if cell else math.nan
