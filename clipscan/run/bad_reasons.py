"""Reasons why samples could not be read: which are of one kind, and the commonest ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable


def kind_of(reason: str) -> str:
    """Reasons that differ only in numbers and in the names they quote are of one kind."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "''", re.sub(r"\d[\d,.]*", "#", reason))


def commonest(reasons: Iterable[str], most: int = 3) -> str:
    """'47 x cannot read 'a.jpg': ...; 2 x ...': how many are of each kind, with the first one's words."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for reason in reasons:
        first.setdefault(kind := kind_of(reason), reason)
        counts[kind] += 1
    return "; ".join(f"{count:,} x {first[kind]}" for kind, count in counts.most_common(most))
