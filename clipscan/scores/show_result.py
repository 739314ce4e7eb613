"""A ScoreResult as text, as HTML for notebooks, and as a table of Arrow."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from clipscan.scores.result import ScoreResult

SHOWN = 10  # rows of the table in a notebook


def short(result: ScoreResult) -> str:
    """One line: how many rows, which columns, the first of them, what is convicted."""
    n, names = _rows(result), list(result.columns)
    said = [f"{n:,} rows", ", ".join(names)]
    if names:
        said.append(f"highest {names[0]}: {_first(result, 3)}")
    if result.population is not None:
        said.append(f"{int((result.population >= 0).sum()):,} convicted")
    return f"<ScoreResult of {'; '.join(said)}>"


def html(result: ScoreResult) -> str:
    """The rows that rank first by the first column, with all columns; every name is escaped."""
    names = list(result.columns)
    cells = ["row", *names, *(["population"] if result.population is not None else [])]
    head = "".join(f"<th>{escape(str(one))}</th>" for one in cells)
    body = "".join(
        f"<tr><th>{row}</th>{''.join(f'<td>{value}</td>' for value in _values(result, row))}</tr>"
        for row in (_order(result)[:SHOWN] if names else ())
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div>{escape(short(result))}{table}</div>"


def arrow(result: ScoreResult) -> Any:
    """pyarrow.Table of n rows in their order: row int64, the columns float64, spread_NAME float64 where a
    reference was drawn several times, population int64 where there is one."""
    import pyarrow as pa

    table = {"row": np.arange(_rows(result)), **result.columns}
    table |= {f"spread_{name}": spread for name, spread in result.spread.items() if spread.any()}
    if result.population is not None:
        table["population"] = result.population
    return pa.table(table)


def _rows(result: ScoreResult) -> int:
    return len(next(iter(result.columns.values()), ()))


def _order(result: ScoreResult) -> list[int]:
    column = next(iter(result.columns.values()))
    return [int(row) for row in np.argsort(-column, kind="stable")]


def _first(result: ScoreResult, count: int) -> str:
    column = next(iter(result.columns.values()))
    told = [f"{column[row]:.4g} (row {row})" for row in _order(result)[:count]]
    return ", ".join(told)


def _values(result: ScoreResult, row: int) -> list[str]:
    values = [f"{column[row]:.4g}" for column in result.columns.values()]
    if result.population is not None:
        values.append("" if result.population[row] < 0 else str(int(result.population[row])))
    return values
