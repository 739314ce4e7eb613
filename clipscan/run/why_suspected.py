"""Why a sample is suspected, in one or two plain sentences made from its scores and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipscan.scores.table import SCORES

NOTABLE = 0.02  # a rank within this share of the samples is worth a word
MORE = 1.1  # a distance this many times the usual one is: below, one decimal shows no difference
# Scores with a sentence of their own, those without drawn references first.
REMARKED = sorted((name for name, one in SCORES.items() if one.notable), key=lambda name: SCORES[name].drawn)


def why(
    row: Mapping[str, Any],
    typical: Mapping[str, float],
    n: int,
    asked: Mapping[str, Any],
    group: tuple[int, int] | None = None,
    alike: int = 0,
    convicted: bool = False,
) -> str:
    """What stands out about a sample, and nothing else; "" where nothing does.

    `row` holds scores and NAME_rank columns, `typical` the median of each score over all n samples; `group`
    the size of the sample's group of near-copies and its number of captions, `alike` how many suspects
    say the same as it, or were `convicted` with it, itself among them; 0 where it is alone.
    """
    scale = str(asked["method"]).partition("@")[2]
    parts = [
        _sparse(row, typical, n, scale, int(asked["k"])), _copies(group), _pair(row, n, scale),
        _company(alike, convicted),
    ]  # fmt: skip
    return " ".join(part for part in parts if part)


def why_else(method: str) -> str:
    """Why a sample is suspected about which nothing stands out by itself."""
    if method == "consensus":
        return "No single score stands out: it is their sum, or what it shares with other suspects."
    return f"Nothing stands out beside {method}."


def _sparse(row: Mapping[str, Any], typical: Mapping[str, float], n: int, scale: str, k: int) -> str:
    """How far its neighbours are, where that is a reason."""
    usual = _named(typical, "kdist", scale)
    far = _named(row, "kdist", scale) / usual if usual and _notable(row, "kdist", scale, n) else 0.0
    farther = _named(row, "slof", scale) if _notable(row, "slof", scale, n) else 0.0
    told = [
        f"{times:.1f} times as far as {whose}"
        for times, whose in ((far, "is usual"), (farther, "theirs do"))
        if times >= MORE
    ]
    return f"Sparse: its {k} nearest references reach {', '.join(told)}." if told else ""


def _notable(row: Mapping[str, Any], name: str, scale: str, n: int) -> bool:
    """Whether the sample is among the first by this score."""
    rank = _named(row, name, scale, "_rank")
    return rank is not None and rank <= NOTABLE * n


def _copies(group: tuple[int, int] | None) -> str:
    if group is None:
        return ""
    size, captions = group
    return f"One of {size:,} near-copies" + (f" under {captions:,} captions." if captions > 1 else ".")


def _company(alike: int, convicted: bool) -> str:
    if not alike:
        return ""
    return f"One of {alike:,} " + (
        "pairs convicted together." if convicted else "suspects whose captions say the same."
    )


def _pair(row: Mapping[str, Any], n: int, scale: str) -> str:
    """The caption beside its picture: learnt poison fits too well, unlearnt poison does not fit."""
    rank = row.get("cosine_rank")
    if rank is None:
        return ""
    said = []
    if rank <= NOTABLE * n:
        said = [f"Caption and picture disagree more than those of {_percent(1 - rank / n)} of the pairs."]
    elif n - rank < NOTABLE * n:
        more = _percent((rank - 1) / n)
        said = [f"Caption and picture agree more than those of {more} of the pairs: learnt well."]
    for name in REMARKED:
        if _notable(row, name, scale if SCORES[name].drawn else "", n):
            said.append(SCORES[name].notable)
    return " ".join(said)


def _named(values: Mapping[str, Any], name: str, scale: str, ending: str = "") -> Any:
    """values["kdist"], or values["kdist@1024x8"] where several scales were computed."""
    return values.get(f"{name}@{scale}{ending}" if scale else f"{name}{ending}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
