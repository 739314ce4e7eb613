"""What all plots share: colours, frames, titles; SVG that is the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipscan.data.atomic import replacing
from clipscan.lab.tables.lab_rows import LabRows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Plot = Callable[[LabRows], "Figure | None"]  # None: the rows have nothing for it
WIDTH = 7.6  # inches
INK, FAINT, GRID = "#333333", "#767676", "#dddddd"
# Okabe and Ito's colours (2008), which colour-blind readers can tell apart.
BLUE, SKY, GREEN, YELLOW, ORANGE, PINK, BLACK = (
    "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#000000",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK)  # for lines that are many and alike
DOT = "\N{BLACK CIRCLE}"
STYLE: dict[str, Any] = {
    "svg.hashsalt": "clipscan", "svg.fonttype": "path", "figure.facecolor": "white", "font.size": 9,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": FAINT,
    "ytick.color": FAINT, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.titlesize": 9, "axes.titlelocation": "left", "axes.titleweight": "bold", "figure.titlesize": 10,
    "figure.titleweight": "bold", "figure.labelsize": 9,
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Plots inside look alike on every machine. ImportError without matplotlib."""
    try:
        from matplotlib import rc_context, rcParamsDefault
    except ImportError as missing:
        raise ImportError("plots need matplotlib: pip install 'clipscan[lab]'") from missing
    settings: dict[Any, Any] = {**rcParamsDefault, **STYLE}
    with rc_context(settings):
        yield


def subplots(
    lines: int, columns: int, size: tuple[float, float], shared_x: bool = False, shared_y: bool = False
) -> tuple[Figure, Any]:
    """A figure and its axes [lines, columns]."""
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    axes: Any = figure.subplots(lines, columns, squeeze=False, sharex=shared_x, sharey=shared_y)
    return figure, axes


def frame(axes: Axes, title: str, chance: float | None) -> None:
    """Title and grid: lines across and one at `chance`, or where there is no such thing lines upward."""
    axes.set_title(title)
    axes.grid(axis="y" if chance is not None else "x", color=GRID, linewidth=0.6)
    if chance is not None:
        axes.axhline(chance, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)


def head(figure: Figure, title: str, words: Sequence[tuple[str, str]]) -> None:
    """The title, and words in the colour that they explain, on one line."""
    figure.suptitle(title, x=0.01, ha="left")
    at = 0.99
    for word, colour in reversed(words):
        figure.text(at, 0.985, word, color=colour, ha="right", va="top", fontsize=8)
        at -= 0.011 * (len(word) + 2)


def spread(wanted: dict[str, float], gap: float) -> dict[str, float]:
    """Places at least `gap` apart, as near as they go to where they are wanted, in that order."""
    placed: dict[str, float] = {}
    for name in sorted(wanted, key=lambda name: -wanted[name]):
        lowest = min(placed.values(), default=float("inf"))
        placed[name] = min(wanted[name], lowest - gap)
    return placed


def name_rows(axes: Axes, names: Sequence[str], **ticks: Any) -> None:
    """Names at the heights 0, 1, ... in the place of figures; ticks: further settings of tick_params."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, **ticks)


def name_lines(
    axes: Axes, at: float, ends: dict[str, float], gap: float, colours: Mapping[str, str], **text: Any
) -> None:
    """The name of each line in its colour at x = `at`, near its end, `gap` apart or more."""
    for name, place in spread(ends, gap).items():
        axes.annotate(name, (at, place), color=colours[name], va="center", **text)


def save(figure: Figure, path: Path) -> Path:
    """Write it without a date; the path."""
    with replacing(path) as (draft,):
        figure.savefig(draft, format="svg", metadata={"Date": None, "Creator": "clipscan"})
    return path
