"""Plots of the scores: how well each finds the poison.

auroc-by-success.svg   a point a model: how far the poison was learnt, and how well each score finds it
auroc-by-rate.svg      learnt poison: what becomes of each score as there is more of it
recall-by-score.svg    how much of the poison is among the first per cent
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from clipscan.lab.grid.cell_scores import DEFAULT
from clipscan.lab.tables.lab_rows import (
    BACKDOOR,
    BANDS,
    HIGH,
    LEARNT,
    UNLEARNT,
    LabRows,
    band,
    is_backdoor,
    kind,
    label,
)
from clipscan.lab.tables.markdown import Row
from clipscan.lab.tables.plot_style import (
    BLACK,
    BLUE,
    DOT,
    FAINT,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PINK,
    SKY,
    WIDTH,
    YELLOW,
    Plot,
    frame,
    head,
    name_lines,
    name_rows,
    subplots,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN: dict[str, tuple[str, str]] = {
    "dao": (BLUE, "s"), "slof": (SKY, "D"), "kdist": (GREEN, "^"), "cosine": (BLACK, "v"),
    "agree": (YELLOW, "P"), "cross": (PINK, "X"), DEFAULT: (ORANGE, "o"),
}  # fmt: skip
COLUMNS = 3  # of small plots
ONE, OTHER = BLUE, ORANGE


def by_success(figures: LabRows) -> Figure | None:
    """Small plots side by side, one a score, a point a model."""
    rows = _backdoors(figures)
    if not rows:
        return None
    shown = [name for name in figures.names if name in (*SHOWN, "iforest", "dao (released)")]
    lines = -(-len(shown) // COLUMNS)
    figure, grid = subplots(lines, COLUMNS, (WIDTH, 0.9 + 1.7 * lines), shared_x=True, shared_y=True)
    for at, (axes, name) in enumerate(zip(grid.flat, shown, strict=False)):
        for high, colour, marker in ((False, ONE, "o"), (True, OTHER, "s")):
            points = [row for row in rows if label(row) == name and (row["rate"] > HIGH) == high]
            x, y = ([row[column] for row in points] for column in ("success", "auroc"))
            axes.scatter(x, y, s=14, color=colour, marker=marker, alpha=0.7, linewidths=0)
        for edge in (UNLEARNT, LEARNT):
            axes.axvline(edge, color=GRID, linewidth=0.8, zorder=0)
        frame(axes, name, chance=0.5)
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.03, 1.05), yticks=(0, 0.5, 1), xticks=(0, 0.5, 1))
        axes.tick_params(labelbottom=at + COLUMNS >= len(shown))
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel(
        f"attack success of the model (lines at {UNLEARNT:g} and {LEARNT:g}: half learnt, learnt)"
    )
    figure.supylabel("AUROC")
    head(
        figure,
        "Each score, by how far the poison was learnt",
        [(f"{DOT} at most 1 % poison", ONE), (f"{DOT} more", OTHER)],
    )
    return figure


def by_rate(figures: LabRows) -> Figure | None:
    """Lines of means over the models that learnt their poison, named at their ends; bars: worst to best."""
    points: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in _backdoors(figures):
        if band(row) == BANDS[0] and label(row) in SHOWN:
            points[label(row)][100 * row["rate"]].append(row["auroc"])
    rates = sorted({rate for by in points.values() for rate in by})
    if len(rates) < 2:
        return None
    figure, grid = subplots(1, 1, (WIDTH, 3.8))
    axes, ends = grid[0, 0], {}
    for number, name in enumerate(name for name in figures.names if name in points):
        (colour, marker), by = SHOWN[name], points[name]
        at = [rate * 1.012 ** (number - 3) for rate in sorted(by)]  # side by side: bars must not cover bars
        means = [fmean(by[rate]) for rate in sorted(by)]
        axes.plot(at, means, color=colour, marker=marker, markersize=5, linewidth=1.5)
        low, high = ([edge(by[rate]) for rate in sorted(by)] for edge in (min, max))
        axes.vlines(at, low, high, color=colour, linewidth=1.2, alpha=0.5)
        ends[name] = means[-1]
    axes.set(xscale="log", xlabel="share of the pairs that is poison, % (log)", ylabel="AUROC")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set_xlim(rates[0] / 1.15, rates[-1] * 1.6)
    frame(axes, "", chance=0.5)
    colours = {name: colour for name, (colour, _) in SHOWN.items()}
    name_lines(axes, rates[-1] * 1.1, ends, 0.05, colours, fontweight="bold")
    head(
        figure,
        "Learnt poison, by how much of it there is",
        [("bars: from the worst model to the best", FAINT)],
    )
    return figure


def recall(figures: LabRows) -> Figure | None:
    """Dots a model, a tick at the mean and its figure; learnt and unlearnt side by side."""
    few = [row for row in _backdoors(figures) if row["rate"] <= HIGH]
    shown = [name for name in (BANDS[0], BANDS[2]) if any(is_backdoor(row, name) for row in few)]
    if not shown:
        return None
    figure, grid = subplots(1, len(shown), (WIDTH, 1.2 + 0.24 * len(figures.names)), shared_y=True)
    order = sorted(figures.names, key=lambda name: _mean_recall(few, name, shown[0]))
    for axes, learnt in zip(grid.flat, shown, strict=True):
        for place, name in enumerate(order):
            values = _recalls(few, name, learnt)
            if values:
                axes.scatter(values, [place] * len(values), s=16, color=ONE, alpha=0.45, linewidths=0)
                axes.plot(fmean(values), place, "|", color=OTHER, markersize=12, markeredgewidth=2)
                axes.text(1.06, place, f"{fmean(values):.2f}", va="center", color=INK)
        frame(axes, learnt, chance=None)
        axes.set(xlim=(-0.03, 1.2), xticks=(0, 0.5, 1), xlabel="share of the poison")
        name_rows(axes, order, labelcolor=INK)
    head(
        figure, "Found when 1 % is removed (at most 1 % poison)", [(f"{DOT} a model", ONE), ("| mean", OTHER)]
    )
    return figure


PLOTS: dict[str, Plot] = {
    "auroc-by-success": by_success,
    "auroc-by-rate": by_rate,
    "recall-by-score": recall,
}


def _backdoors(figures: LabRows) -> list[Row]:
    return [row for row in figures.headline if kind(row) == BACKDOOR and band(row)]


def _recalls(rows: Sequence[Row], name: str, learnt: str) -> list[float]:
    return [row["recall_1"] for row in rows if label(row) == name and band(row) == learnt]


def _mean_recall(rows: Sequence[Row], name: str, learnt: str) -> float:
    return fmean(_recalls(rows, name, learnt) or [-1.0])
