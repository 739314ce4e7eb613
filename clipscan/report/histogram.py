"""Histograms, of the ranking score and others: bins over the whole run, their geometry as plain numbers.

Nothing here is markup; the template draws rectangles, lines and labels at the places given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from clipscan.report.identities import batches
from clipscan.report.visible_text import number
from clipscan.run.markers import complete

BINS = 72
WIDTH, HEIGHT = 760, 380  # of the drawing, in its own units; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 26, 58  # margins: counts, -, cut label, scores
HUGE = 1e150  # scores beyond are drawn as infinite ones: in the end bins
WIDE = 50.0  # largest / smallest score from which the score axis is logarithmic too

Floats = npt.NDArray[np.float64]
Spread = Callable[[], Iterable[Floats]]  # yields the scores afresh: they are read twice


@dataclass(frozen=True)
class Bins:
    """Counts [b] between edges [b+1]; `beyond` = how many scores are at or above the cut."""

    edges: Floats
    counts: npt.NDArray[np.int64]
    log: bool
    cut: float  # NaN for none
    beyond: int
    nan: int


class Mark(NamedTuple):
    """A labelled place on an axis."""

    at: float
    label: str


class Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    cut: bool  # at or beyond the cut line
    title: str


class Drawing(NamedTuple):
    """Everything the template needs, in drawing units."""

    bars: list[Bar]
    x_ticks: list[Mark]
    y_ticks: list[Mark]
    cut: Mark | None
    cut_right: bool  # there is room for its label at the right of the line
    log: bool
    beyond: int
    nan: int


def has_scores(folder: Path, method: str) -> bool:
    """Whether scores/ is there and every file of it has the column."""
    complete(folder, "score")
    files = sorted((folder / "scores").glob("*.parquet"))
    return bool(files) and all(method in pq.read_schema(path).names for path in files)


def scores_of(folder: Path, method: str) -> Spread:
    """The column `method` of scores/*.parquet, batch by batch, as often as asked."""
    files = sorted((folder / "scores").glob("*.parquet"))

    def spread() -> Iterable[Floats]:
        for batch in batches(files, [method]):
            yield batch.column(0).to_numpy(zero_copy_only=False).astype(np.float64)

    return spread


def bin_scores(spread: Spread, cut: float = math.nan, *, log: bool | None = None) -> Bins | None:
    """Two passes: range, then counts. None where there is no finite score. +-inf counts in the end bins.

    log: whether the score axis is logarithmic; by default where scores are positive and WIDE apart.
    """
    low, high = math.inf, -math.inf
    for scores in spread():
        finite = scores[np.abs(scores) < HUGE]
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        return None
    low, high = _widened(low, high)
    log = low > 0 and high / low > WIDE if log is None else log
    edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    counts, beyond, nan = np.zeros(BINS, dtype=np.int64), 0, 0
    for scores in spread():
        known = scores[~np.isnan(scores)]
        nan += len(scores) - len(known)
        beyond += int((known >= cut).sum())
        counts += np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0]
    return Bins(edges, counts, log, cut, beyond, nan)


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range, or a wider one if all scores are but equal: bins need a width, and round numbers between."""
    least = max(1e-9 * max(abs(low), abs(high)), 1e-100)
    more = max(0.5, 1e3 * least) if high - low < least else 0.0
    return low - more, high + more


def draw(bins: Bins) -> Drawing:
    """Bars on a logarithmic count axis (1 at the bottom line plus a sliver, so that 1 can be seen)."""
    x = _x_axis(bins)
    top = max(int(bins.counts.max()), 10)
    bars = []
    for left, right, count in zip(bins.edges, bins.edges[1:], bins.counts, strict=False):
        if count:
            y = _y(int(count), top)
            title = f"{number(float(left))} to {number(float(right))}: {int(count):,}"
            at, width = round(x(left) + 0.5, 2), round(x(right) - x(left) - 1, 2)
            tall = round(HEIGHT - BOTTOM - y, 2)
            bars.append(Bar(at, round(y, 2), width, tall, bool(right > bins.cut), title))
    y_ticks = [Mark(round(_y(10**e, top), 2), _power(e)) for e in range(int(math.log10(top)) + 1)]
    x_ticks = [Mark(round(x(value), 2), f"{value:g}") for value in _round_values(bins)]
    inside = bins.edges[0] <= bins.cut <= bins.edges[-1]
    cut = Mark(round(x(bins.cut), 2), number(bins.cut)) if inside else None
    room = cut is not None and cut.at < WIDTH * 0.62
    return Drawing(bars, x_ticks, y_ticks, cut, room, bins.log, bins.beyond, bins.nan)


def curve(bins: Bins, counts: Floats) -> str:
    """SVG points of a line through `counts` [b] at the middles of the bins, where they are at least 1."""
    x, top = _x_axis(bins), max(int(bins.counts.max()), 10)
    middles = zip((bins.edges[1:] + bins.edges[:-1]) / 2, counts, strict=True)
    return " ".join(f"{x(at):.2f},{_y(min(count, top), top):.2f}" for at, count in middles if count >= 1)


def _x_axis(bins: Bins) -> Callable[[Any], float]:
    scale = np.log if bins.log else np.asarray
    low, high = float(scale(bins.edges[0])), float(scale(bins.edges[-1]))
    return lambda score: LEFT + (WIDTH - LEFT - RIGHT) * (float(scale(score)) - low) / (high - low)


def _y(count: float, top: int) -> float:
    """Count -> height on the drawing: log, with 0.7 at the base line."""
    share = math.log(count / 0.7) / math.log(top / 0.7)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent < 7 else f"1e{exponent}"


def _round_values(bins: Bins) -> list[float]:
    """Four to eight round numbers within the edges."""
    low, high = float(bins.edges[0]), float(bins.edges[-1])
    if bins.log:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if len(exponents) <= 4 else (1,)
        every = max(1, len(exponents) // 8)
        values = [step * 10.0**e for e in list(exponents)[::every] for step in steps]
    else:
        step = _round_step((high - low) / 6)
        values = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [value for value in values if low <= value <= high]


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `rough`."""
    base = 10.0 ** math.floor(math.log10(rough))
    return next(base * step for step in (1, 2, 2.5, 5, 10) if base * step >= rough * 0.999)
