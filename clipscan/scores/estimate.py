"""How many rows to drop: the size of a second population at the suspicious end of a score.

Of a score that is made of surprises, as consensus is, one population has a tail that falls off at least
exponentially: what its bulk does, TAIL, can be drawn on. Where EXCESS times as many rows are found as that
line leaves, a second population begins. More than a twentieth of all rows would bend the line itself, and
other scores have tails of any kind. There a valley is looked for: scores of one population thin out towards
the top, so that a window further up never holds more rows than one below it, chance aside; where it does,
something else begins.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from clipscan.engine.arrays import Array
from clipscan.errors import InputError

EXPONENTIAL = ("consensus",)  # scores with such a tail
TAIL = (0.8, 0.95)  # quantiles between which the line is drawn
EXCESS = 5.0
FEWEST = 12  # rows that are a population
FOOT = 0.2  # the valley is looked for among this share of the rows, the highest
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of a window, in units of the typical height above the foot
STEPS = 8  # windows are looked at every eighth of their width
# Of the distance between the 10th and the 90th percentile, above the median: nearer borders run between
# classes of clean pairs.
FAR = 1.5
DEEP = 2.0  # times as many rows, at least, behind the valley as in it
CERTAIN = 3.5  # standard deviations by which a later window must be fuller


class Estimate(NamedTuple):
    """The number of rows in the second population; fewest and most where twice or half the excess is asked
    for, or the border of a valley is moved by one window; the border itself, +inf where there is no such
    population."""

    number: int
    fewest: int
    most: int
    border: float

    def words(self) -> str:
        if not self.number:
            return "no group of rows stands apart"
        return f"about {self.number:,} rows stand apart ({self.fewest:,} to {self.most:,})"

    @classmethod
    def of(cls, record: dict[str, Any]) -> Estimate:
        """The estimate of a record."""
        border = record["border"]
        return cls(record["number"], record["fewest"], record["most"], math.inf if border is None else border)

    def record(self) -> dict[str, Any]:
        """For JSON, which has no infinity."""
        return self._asdict() | {"border": self.border if np.isfinite(self.border) else None}


NOBODY = Estimate(0, 0, 0, float("inf"))


def estimate_of(method: str, scores: ArrayLike) -> Estimate:
    """The estimate of a score by its name: EXPONENTIAL says which tail it has."""
    return estimate(scores, exponential=method in EXPONENTIAL)


def estimate(scores: ArrayLike, *, exponential: bool = False) -> Estimate:
    """Rows of a second population among n scores (higher = more suspicious); NaN counts as lowest.

    exponential: the tail of one population is known to fall off at least so (EXPONENTIAL). The border is the
    lowest score, FAR from the bulk, above which lie EXCESS times as many rows as expected, at least FEWEST;
    a valley counts only with more rows above it than the line's upper end leaves.
    A valley is the emptiest window before a fuller one: by (later - here) / sqrt(later + here + 1) >=
    CERTAIN standard deviations, and DEEP times as full. Of several the lowest counts, so long as it is FAR
    from the bulk: what lies behind it may be more than one population. Those that no valley sets apart, of
    fewer than about CERTAIN^2 rows, or of more than FOOT of all are not seen: NOBODY.
    InputError unless scores are [n].
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1:
        raise InputError(f"scores must be [n], got {values.shape}")
    ascending = np.sort(np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf))
    ascending = ascending[np.isfinite(ascending)]
    if len(ascending) < 2:
        return NOBODY
    low, median, high, foot = np.quantile(ascending, [0.1, 0.5, 0.9, 1 - FOOT])
    scale = float(np.median(ascending[ascending >= foot]) - foot)
    start = max(float(foot), float(median + FAR * (high - low)))
    if exponential and (beyond := _beyond(ascending, start)) is not None:
        return beyond
    found = [one for width in WIDTHS if (one := _valley(ascending, start, width * scale)) is not None]
    if not found:
        return NOBODY
    border, width = min(found)
    if exponential and _above(ascending, border) <= (1 - TAIL[1]) * len(ascending):
        return NOBODY
    return Estimate(
        _above(ascending, border),
        _above(ascending, border + width),
        _above(ascending, border - width),
        border,
    )


def _above(ascending: Array, limit: float) -> int:
    return len(ascending) - int(np.searchsorted(ascending, limit, side="left"))


def _beyond(ascending: Array, start: float) -> Estimate | None:
    """The rows above `start` that are too many for an exponential tail; None where none are."""
    low, high = np.quantile(ascending, TAIL)
    slope = (high - low) / np.log((1 - TAIL[0]) / (1 - TAIL[1]))
    if not slope > 0:
        return None
    n, first = len(ascending), int(np.searchsorted(ascending, start, side="right"))
    held = n - np.arange(first, n)  # rows at or above each of these scores
    expected = n * (1 - TAIL[1]) * np.exp(-(ascending[first:] - high) / slope)

    def border(excess: float) -> float:
        there = np.flatnonzero((held >= excess * expected) & (held >= FEWEST))
        if not len(there):
            return np.inf
        at = first + int(there[0])
        return float(ascending[at] + ascending[max(at - 1, 0)]) / 2

    if not np.isfinite(found := border(EXCESS)):
        return None
    fewest, most = (_above(ascending, border(excess)) for excess in (2 * EXCESS, EXCESS / 2))
    return Estimate(_above(ascending, found), fewest, most, found)


def _valley(ascending: Array, start: float, width: float) -> tuple[float, float] | None:
    """(border, width) of the lowest valley with its middle at or above `start`, for windows of one width."""
    if not width > 0 or not 0 < (ascending[-1] - start) / width < 1e6:
        return None
    left = np.arange(start - width / 2, ascending[-1] + width, width / STEPS)
    held = np.searchsorted(ascending, left + width) - np.searchsorted(ascending, left)  # rows in each window
    emptiest = np.minimum.accumulate(held)[: len(held) - STEPS]  # of the windows that end before one begins
    later = held[STEPS:]
    risen = (later >= DEEP * emptiest) & ((later - emptiest) / np.sqrt(later + emptiest + 1.0) >= CERTAIN)
    if not risen.any():
        return None
    at = int(np.argmax(risen))  # the first
    bottom = np.flatnonzero(held[: at + 1] == emptiest[at])
    return float(left[bottom].mean() + width / 2), width
