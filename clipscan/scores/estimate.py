"""How many rows to drop: the size of a second population at the suspicious end of a score.

consensus knows the populations that it convicted, and its values say so (scores/consensus.py). Of any other
score a valley is looked for: scores of one population thin out towards the top, so that a window further up
never holds more rows than one below it, chance aside; where it does, something else begins.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.scores.consensus import DROP, LOOK, SURE

FOOT = 0.2  # the valley is looked for among this share of the rows, the highest
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of a window, in units of the typical height above the foot
STEPS = 8  # windows are looked at every eighth of their width
# Of the distance between the 10th and the 90th percentile, above the median: nearer borders run between
# classes of clean pairs.
FAR = 1.5
DEEP = 2.0  # times as many rows, at least, behind the valley as in it
CERTAIN = 3.5  # standard deviations by which a later window must be fuller


class Estimate(NamedTuple):
    """The number of rows in the second population; fewest and most where the border of a valley is moved by
    one window, or which rows of a convicted population are sure and which may belong to it; the border
    itself, +inf where there is no such population."""

    number: int
    fewest: int
    most: int
    border: float

    def words(self) -> str:
        """How many rows stand apart, and between which numbers."""
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
    """The estimate of a score by its name: consensus has steps, others may have a valley."""
    if method != "consensus":
        return estimate(scores)
    values = np.asarray(scores, np.float64)
    sure, number, most = (int((values >= step).sum()) for step in (SURE, DROP, LOOK))
    return Estimate(number, sure, most, DROP) if number else NOBODY


def estimate(scores: ArrayLike) -> Estimate:
    """Rows of a second population among n scores (higher = more suspicious); NaN counts as lowest.

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
    found = [one for width in WIDTHS if (one := _valley(ascending, start, width * scale)) is not None]
    if not found:
        return NOBODY
    border, width = min(found)
    return Estimate(
        _above(ascending, border),
        _above(ascending, border + width),
        _above(ascending, border - width),
        border,
    )


def _above(ascending: Array, limit: float) -> int:
    return len(ascending) - int(np.searchsorted(ascending, limit, side="left"))


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
