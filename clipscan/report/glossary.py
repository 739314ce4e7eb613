"""Small vocabulary of the page: what each score measures, and what the reference setting means.

The longer prose is in page.html.j2.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from clipscan.scores.renamed import present_name
from clipscan.scores.table import SCORES

ABOUT = {name: one.about for name, one in SCORES.items()} | {"norm": "length of the raw picture vector"}
LABELS = {name: one.label for name, one in SCORES.items() if one.label}
DENSITY_SCORES = tuple(name for name, one in SCORES.items() if one.family == "density")
PAIR_SCORES = tuple(name for name, one in SCORES.items() if one.family == "cross_modal")

SPARSE_UNTIL = 0.4  # p*R/k up to which learnt poison was found with AUROC above 0.97 in our measurements


class ReferenceSetting(NamedTuple):
    """The random references that samples are compared with: `draws` times `rows`."""

    rows: tuple[int, ...]  # one or several sizes; empty where it is the whole set, or unknown
    draws: int
    text: str


def reference_of(setting: Any) -> ReferenceSetting:
    """Reads the setting `reference` of run.json: "1024x8", 1024, "all", "256x8,1024x8"."""
    found = [re.fullmatch(r"(\d{1,12})(?:x(\d{1,6}))?", part.strip()) for part in str(setting).split(",")]
    rows = tuple(int(match[1]) for match in found if match)
    draws = max((int(match[2] or 1) for match in found if match), default=1)
    if not rows:
        return ReferenceSetting((), 1, "the whole dataset" if setting == "all" else "the given reference")
    each = " and ".join(f"{size:,}" for size in rows)
    several = f"{draws} random references of {each} samples each, averaged"
    return ReferenceSetting(rows, draws, several if draws > 1 else f"{each} random samples")


def rate_limit(k: Any, reference: ReferenceSetting) -> float | None:
    """The share p of poison that is still sparse in the smallest reference: p*R/k = 0.4. None: unknown."""
    if not reference.rows or not isinstance(k, int):
        return None
    return min(1.0, SPARSE_UNTIL * k / max(1, min(reference.rows)))


def about(score: str) -> str:
    """One line on a score, "" for an unknown one."""
    return ABOUT.get(_plain_name(score), "")


def label(score: str) -> str:
    """The name of a score beside its value."""
    return LABELS.get(score, score)


def is_density_score(score: str) -> bool:
    """Whether it measures how far a picture is from the others."""
    return _plain_name(score) in DENSITY_SCORES


def is_pair_score(score: str) -> bool:
    """Whether it compares pictures with captions."""
    return _plain_name(score) in PAIR_SCORES


def _plain_name(score: str) -> str:
    """'dao@512x8' is a dao; an old name is the present one."""
    return present_name(score).split("@", 1)[0]
