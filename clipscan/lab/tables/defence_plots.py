"""Plots of the defences: what each is worth, and what SafeCLIP takes for safe on its way.

defences.svg   attack success and accuracy of the plain training and of each defended one
safe-set.svg   epoch by epoch: how many pairs SafeCLIP takes for safe, and how many of these are poison
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from clipscan.lab.grid.defences import DROP, SAFECLIP
from clipscan.lab.tables.lab_rows import LabRows
from clipscan.lab.tables.markdown import CASE, Row, about, cases
from clipscan.lab.tables.plot_style import (
    BLACK,
    BLUE,
    DOT,
    FAINT,
    ORANGE,
    PALETTE,
    WIDTH,
    Plot,
    frame,
    head,
    name_lines,
    name_rows,
    subplots,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN = "plain"
MARKS = {PLAIN: (BLACK, "v"), SAFECLIP: (BLUE, "s"), DROP: (ORANGE, "o")}


def compared(figures: LabRows) -> Figure | None:
    """A line a case: how far each defence moves the attack's success, and the accuracy. Means over seeds."""
    groups = [rows for rows in cases(figures.defended).values() if rows[0]["success"] is not None]
    if not groups:
        return None
    figure, grid = subplots(1, 2, (WIDTH, 1.1 + 0.26 * len(groups)), shared_y=True)
    names = _names(groups)
    for axes, column in zip(grid.flat, ("success", "accuracy"), strict=True):
        for place, rows in enumerate(reversed(groups)):
            _moved(axes, place, rows, column)
        frame(axes, {"success": "attack success"}.get(column, column), chance=None)
        name_rows(axes, names[::-1])
    grid[0, 0].set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1))
    grid[0, 1].locator_params(axis="x", nbins=4)
    used = [
        PLAIN,
        *(name for name in (SAFECLIP, DROP) if any(r["defence"] == name for r in figures.defended)),
    ]
    head(
        figure, "The same data trained again, defended", [(f"{DOT} {name}", MARKS[name][0]) for name in used]
    )
    return figure


def safe_set(figures: LabRows) -> Figure | None:
    """Lines of means over the seeds, a colour a case, named at their ends."""
    groups = list(cases(figures.partitions, [name for name in CASE if name != "epoch"]).values())
    if not groups:
        return None
    figure, grid = subplots(1, 2, (WIDTH, 3.2))
    ends: dict[str, float] = {}
    colours = {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(_names(groups))}
    for (name, colour), rows in zip(colours.items(), groups, strict=True):
        epochs = list(cases(rows, ("epoch",)).values())
        at = [same[0]["epoch"] for same in epochs]
        share, rate = (
            [100 * fmean(row[column] for row in same) for same in epochs]
            for column in ("share", "poison_rate")
        )
        grid[0, 0].plot(at, share, color=colour, linewidth=1.5)
        grid[0, 1].plot(at, rate, color=colour, linewidth=1.5)
        grid[0, 1].axhline(
            100 * rows[0]["rate"], color=colour, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0
        )
        ends[name] = rate[-1]
    last = max(row["epoch"] for row in figures.partitions)
    highest = grid[0, 1].get_ylim()[1]
    name_lines(grid[0, 1], last * 1.02, ends, highest / 14, colours, annotation_clip=False)
    for axes, title in zip(grid.flat, ("pairs taken for safe, %", "poison among them, %"), strict=True):
        frame(axes, title, chance=None)
        axes.set(xlabel="epoch", ylim=(0, None))
        axes.locator_params(axis="x", integer=True)
    head(figure, "What SafeCLIP takes for safe", [("dashed: poison among all pairs", FAINT)])
    return figure


PLOTS: dict[str, Plot] = {"defences": compared, "safe-set": safe_set}


def _moved(axes: Axes, place: int, rows: Sequence[Row], column: str) -> None:
    """The plain training's mean of a column at a height, and each defence's, joined by a line."""
    means = {PLAIN: fmean(row[column] for row in rows)}
    for (name,), same in cases(rows, ("defence",)).items():
        means[name] = fmean(row[f"{column}_after"] for row in same)
    axes.hlines(place, min(means.values()), max(means.values()), color=FAINT, linewidth=0.8, zorder=1)
    for name, value in means.items():
        colour, marker = MARKS[name]
        axes.scatter([value], [place], s=28, color=colour, marker=marker, linewidths=0, zorder=2)


def _names(groups: Sequence[Sequence[Row]]) -> list[str]:
    """Attack, target and rate of each case; dataset and model too where there are several."""
    firsts = [rows[0] for rows in groups]
    more = [name for name in ("dataset", "model") if len({row[name] for row in firsts}) > 1]
    return [", ".join([*about(row)[:3], *(row[name] for name in more)]) for row in firsts]
