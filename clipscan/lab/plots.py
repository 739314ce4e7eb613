"""The rows as pictures: SVG, the same bytes for the same rows, readable on a light and on a dark page.

auroc-by-success.svg   a point a model: how far the poison was learnt, and how well each score finds it
auroc-by-rate.svg      learnt poison: what becomes of each score as there is more of it
recall-by-score.svg    how much of the poison is among the first per cent
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from clipscan.lab.answers import DEFAULT
from clipscan.lab.markdown import Row
from clipscan.lab.tables import (
    BACKDOOR,
    BANDS,
    HIGH,
    LEARNT,
    UNLEARNT,
    Figures,
    band,
    is_backdoor,
    kind,
    label,
)
from clipscan.run.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours (2008), which everybody tells apart, and a marker to each.
SHOWN: dict[str, tuple[str, str]] = {
    "dao": ("#0072b2", "s"), "slof": ("#56b4e9", "D"), "kdist": ("#009e73", "^"), "cosine": ("#000000", "v"),
    "agree": ("#e69f00", "P"), "cross": ("#cc79a7", "X"), DEFAULT: ("#d55e00", "o"),
}  # fmt: skip
COLUMNS = 3  # of small plots
INK, FAINT, GRID = "#333333", "#767676", "#dddddd"
ONE, OTHER, DOT = "#0072b2", "#d55e00", "\N{BLACK CIRCLE}"
STYLE: dict[str, Any] = {
    "svg.hashsalt": "clipscan", "svg.fonttype": "path", "figure.facecolor": "white", "font.size": 9,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": FAINT,
    "ytick.color": FAINT, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.titlesize": 9, "axes.titlelocation": "left", "axes.titleweight": "bold", "figure.titlesize": 10,
    "figure.titleweight": "bold", "figure.labelsize": 9,
}  # fmt: skip


def draw_plots(figures: Figures, to: Path) -> list[Path]:
    """Draw what the rows have something for into `to`; the paths. ImportError without matplotlib."""
    rows = [row for row in figures.headline if kind(row) == BACKDOOR and band(row)]
    plots: dict[str, Callable[[list[Row], list[str]], Figure | None]] = {
        "auroc-by-success": by_success,
        "auroc-by-rate": by_rate,
        "recall-by-score": recall,
    }
    drawn = []
    with _style():
        for name, plot in plots.items():
            if rows and (figure := plot(rows, figures.names)) is not None:
                drawn.append(_save(figure, to / f"{name}.svg"))
    return drawn


def by_success(rows: list[Row], names: list[str]) -> Figure:
    """Small plots side by side, one a score, a point a model."""
    shown = [name for name in names if name in (*SHOWN, "iforest", "dao (released)")]
    lines = -(-len(shown) // COLUMNS)
    figure, grid = _subplots(lines, COLUMNS, (7.6, 0.9 + 1.7 * lines), shared_x=True, shared_y=True)
    for at, (axes, name) in enumerate(zip(grid.flat, shown, strict=False)):
        for high, colour, marker in ((False, ONE, "o"), (True, OTHER, "s")):
            points = [row for row in rows if label(row) == name and (row["rate"] > HIGH) == high]
            x, y = ([row[column] for row in points] for column in ("success", "auroc"))
            axes.scatter(x, y, s=14, color=colour, marker=marker, alpha=0.7, linewidths=0)
        for edge in (UNLEARNT, LEARNT):
            axes.axvline(edge, color=GRID, linewidth=0.8, zorder=0)
        _frame(axes, name, chance=0.5)
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.03, 1.05), yticks=(0, 0.5, 1), xticks=(0, 0.5, 1))
        axes.tick_params(labelbottom=at + COLUMNS >= len(shown))
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel(
        f"attack success of the model (lines at {UNLEARNT:g} and {LEARNT:g}: half learnt, learnt)"
    )
    figure.supylabel("AUROC")
    _head(
        figure,
        "Each score, by how far the poison was learnt",
        [(f"{DOT} at most 1 % poison", ONE), (f"{DOT} more", OTHER)],
    )
    return figure


def by_rate(rows: list[Row], names: list[str]) -> Figure | None:
    """Lines of means over the models that learnt their poison, named at their ends; bars: worst to best."""
    points: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if band(row) == BANDS[0] and label(row) in SHOWN:
            points[label(row)][100 * row["rate"]].append(row["auroc"])
    rates = sorted({rate for by in points.values() for rate in by})
    if len(rates) < 2:
        return None
    figure, grid = _subplots(1, 1, (7.6, 3.8))
    axes, ends = grid[0, 0], {}
    for number, name in enumerate(name for name in names if name in points):
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
    _frame(axes, "", chance=0.5)
    for name, place in _spread(ends, 0.05).items():
        axes.annotate(name, (rates[-1] * 1.1, place), color=SHOWN[name][0], va="center", fontweight="bold")
    _head(
        figure,
        "Learnt poison, by how much of it there is",
        [("bars: from the worst model to the best", FAINT)],
    )
    return figure


def recall(rows: list[Row], names: list[str]) -> Figure | None:
    """Dots a model, a tick at the mean and its figure; learnt and unlearnt side by side."""
    few = [row for row in rows if row["rate"] <= HIGH]
    shown = [name for name in (BANDS[0], BANDS[2]) if any(is_backdoor(row, name) for row in few)]
    if not shown:
        return None
    figure, grid = _subplots(1, len(shown), (7.6, 1.2 + 0.24 * len(names)), shared_y=True)
    order = sorted(names, key=lambda name: _mean_recall(few, name, shown[0]))
    for axes, learnt in zip(grid.flat, shown, strict=True):
        for place, name in enumerate(order):
            values = _recalls(few, name, learnt)
            if values:
                axes.scatter(values, [place] * len(values), s=16, color=ONE, alpha=0.45, linewidths=0)
                axes.plot(fmean(values), place, "|", color=OTHER, markersize=12, markeredgewidth=2)
                axes.text(1.06, place, f"{fmean(values):.2f}", va="center", color=INK)
        _frame(axes, learnt, chance=None)
        axes.set(xlim=(-0.03, 1.2), xticks=(0, 0.5, 1), xlabel="share of the poison")
        axes.set_yticks(range(len(order)), order)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
    _head(
        figure, "Found when 1 % is removed (at most 1 % poison)", [(f"{DOT} a model", ONE), ("| mean", OTHER)]
    )
    return figure


def _recalls(rows: Sequence[Row], name: str, learnt: str) -> list[float]:
    return [row["recall_1"] for row in rows if label(row) == name and band(row) == learnt]


def _mean_recall(rows: Sequence[Row], name: str, learnt: str) -> float:
    return fmean(_recalls(rows, name, learnt) or [-1.0])


def _spread(wanted: dict[str, float], gap: float) -> dict[str, float]:
    """Places at least `gap` apart, as near as they go to where they are wanted, in that order."""
    placed: dict[str, float] = {}
    for name in sorted(wanted, key=lambda name: -wanted[name]):
        lowest = min(placed.values(), default=float("inf"))
        placed[name] = min(wanted[name], lowest - gap)
    return placed


def _frame(axes: Axes, title: str, chance: float | None) -> None:
    axes.set_title(title)
    axes.grid(axis="y" if chance is not None else "x", color=GRID, linewidth=0.6)
    if chance is not None:
        axes.axhline(chance, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)


def _head(figure: Figure, title: str, words: Sequence[tuple[str, str]]) -> None:
    """The title, and words in the colour that they explain, on one line."""
    figure.suptitle(title, x=0.01, ha="left")
    at = 0.99
    for word, colour in reversed(words):
        figure.text(at, 0.985, word, color=colour, ha="right", va="top", fontsize=8)
        at -= 0.011 * (len(word) + 2)


def _subplots(
    lines: int, columns: int, size: tuple[float, float], shared_x: bool = False, shared_y: bool = False
) -> tuple[Figure, Any]:
    """A figure and its axes [lines, columns]."""
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    axes: Any = figure.subplots(lines, columns, squeeze=False, sharex=shared_x, sharey=shared_y)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as (draft,):
        figure.savefig(draft, format="svg", metadata={"Date": None, "Creator": "clipscan"})
    return path


@contextmanager
def _style() -> Iterator[None]:
    try:
        from matplotlib import rc_context, rcParamsDefault
    except ImportError as missing:
        raise ImportError("plots need matplotlib: pip install 'clipscan[lab]'") from missing
    style: dict[Any, Any] = {**rcParamsDefault, **STYLE}
    with rc_context(style):
        yield
