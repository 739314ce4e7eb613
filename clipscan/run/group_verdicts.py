"""What a group of samples looks like, in words: a stated rule on a few figures of the group.

copies     near-identical pictures: do their captions agree?
suspects   convicted together, or captions that say the same: do their pictures stand apart, or are they
           merely wrong?
"""

from __future__ import annotations

import math
from typing import NamedTuple

AGREE = 0.8  # mean cosine of the captions of a group, above which they say the same
MARKED = 2.0  # mean surprise -ln(rank / n) of a group: 1 for samples drawn at random, 2 for the top seventh
HALF = 0.5  # of a group must stand apart, or it is the tail of the clean pairs
MOSTLY = 0.8  # share of a group under one wording

TRIGGER = "trigger-like: pictures that stand apart, under captions that say the same"
UNLEARNT = "captions that say the same on pictures they do not fit: a trigger not learnt yet, or wrong labels"
BOILERPLATE = "boilerplate caption: one wording under pictures it does not fit"
ODD = "odd, but nothing that sets them apart together: look, and keep unless you know better"
DUPLICATE = "duplicated pair: one picture many times under captions that say the same, a natural backdoor"
PLACEHOLDER = "placeholder picture: one picture under unrelated captions"
COPIES = "near-copies whose captions were not compared"


class GroupFigures(NamedTuple):
    """Figures of a group. agreement: mean cosine of its captions (NaN without captions); commonest: share of
    the members under the commonest caption; alone, mismatched: mean surprise by density and by the
    cross-modal scores (NaN where there are none); apart: share of the members in the population that stands
    apart (scores/estimate.py); kind: of a convicted population (scores/populations), "" for none."""

    size: int
    agreement: float
    commonest: float
    alone: float = math.nan
    mismatched: float = math.nan
    apart: float = 0.0
    kind: str = ""


def verdict_on_copies(group: GroupFigures) -> str:
    """The verdict on a group of near-copies."""
    if math.isnan(group.agreement):
        return COPIES
    return DUPLICATE if group.agreement >= AGREE or group.commonest >= MOSTLY else PLACEHOLDER


def verdict_on_suspects(group: GroupFigures) -> str:
    """The verdict on a convicted population, or on suspects whose captions say the same."""
    if group.kind:
        return UNLEARNT if group.kind == "captions" else TRIGGER
    if group.apart < HALF:
        wrong = group.mismatched >= MARKED and group.commonest >= MOSTLY
        return BOILERPLATE if wrong else ODD
    if group.alone >= MARKED:
        return TRIGGER
    if group.mismatched >= MARKED:
        return BOILERPLATE if group.commonest >= MOSTLY else UNLEARNT
    return ODD
