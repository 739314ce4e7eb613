"""A group's evidence in figures: by density, by mismatch, by the second witness, and how enriched it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from clipscan.report.convicted import Convicted
from clipscan.report.glossary import is_density_score, is_pair_score

WITNESS = "misfit"  # fitted without pairs like the one that it judges

Row = dict[str, Any]


class Figure(NamedTuple):
    """One figure of a group, its value in words, and what it means."""

    label: str
    value: str
    about: str


def evidence(
    members: Iterable[tuple[str, str]], suspects: Mapping[tuple[str, str], Row], n: int
) -> list[Figure]:
    """What the scores of a group's suspects say. n: samples of the run."""
    listed = list(members)
    rows = [suspects[pair] for pair in listed if pair in suspects]
    found = [
        _surprise("density", rows, is_density_score, n, "far from what is drawn at random"),
        _surprise("mismatch", rows, _compares, n, "picture and caption disagree"),
        _surprise(
            "second witness", rows, WITNESS.__eq__, n, "a model that was shown no such pairs finds no fit"
        ),
    ]
    return [one for one in found if one] + _enrichment(len(rows), len(listed), len(suspects), n)


def poison(one: Convicted) -> str:
    """How many of a convicted population are poison, by the estimated share of clean pairs among them."""
    if math.isnan(one.clean):
        return ""
    return f"about {round(one.size * (1 - min(1.0, max(0.0, one.clean)))):,} of {one.size:,}"


def _compares(name: str) -> bool:
    return is_pair_score(name) and name != WITNESS


def _surprise(label: str, rows: list[Row], of: Callable[[str], bool], n: int, about: str) -> Figure | None:
    """Mean of -ln(rank / n) over the suspects and the scores of a kind."""
    ranks = [
        rank
        for row in rows
        for name, rank in row.items()
        if name.endswith("_rank") and rank and of(name.removesuffix("_rank"))
    ]
    if not ranks or n < 1:
        return None
    mean = sum(math.log(n / min(rank, n)) for rank in ranks) / len(ranks)
    return Figure(label, f"{mean:.1f}", f"{about}: mean of −ln(rank / n) of its suspects; 1 is usual")


def _enrichment(inside: int, size: int, suspects: int, n: int) -> list[Figure]:
    if not size or not suspects or not n:
        return []
    times = (inside / size) / (suspects / n)
    about = f"{inside:,} of the {size:,} listed members are suspects; 1 × is the share in the whole set"
    return [Figure("enrichment", f"{times:.0f} ×" if times >= 10 else f"{times:.1f} ×", about)]
