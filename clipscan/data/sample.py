"""The one record that every reader yields and everything above consumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from clipscan.data.text import printable

MAX_KINDS = 1_000  # told apart; names are hostile
MAX_KIND_CHARS = 24


@dataclass(frozen=True, slots=True)
class Sample:
    """One image-text pair, born whole. `(shard, key)` is its identity within the dataset.

    `image` holds the encoded bytes as they lie in the dataset (None for precomputed embeddings).
    `at` says where in the shard the sample begins, so that it can be fetched again without a
    scan: byte offset of its first header in a tar, row number in a table, -1 where unknown.
    """

    shard: str
    key: str
    image: bytes | None
    caption: str
    uid: str = ""
    sha256: str = ""
    url: str = ""
    at: int = -1


@dataclass(frozen=True, slots=True)
class Bad:
    """A sample that could not be read, and why. An empty key: the shard itself broke there."""

    shard: str
    key: str
    reason: str


def unreadable(shard: str, key: str, reason: object) -> Bad:
    """The Bad of a sample, or with key "" of a shard; its reason becomes valid Unicode on one line."""
    return Bad(shard, key, printable(str(reason)))


def tally(counts: Counter[str], kinds: Iterable[str]) -> None:
    """Count files or members that are passed over, by their extension; strange ones as one kind."""
    for kind in kinds:
        known = len(kind) <= MAX_KIND_CHARS and (kind in counts or len(counts) < MAX_KINDS)
        counts[kind if known else "..."] += 1


def shown_kinds(counts: Counter[str], most: int = 8) -> str:
    """'12 .tar, 3 without extension', the most common first."""
    shown = [f"{count:,} .{kind}" if kind else f"{count:,} without extension"
             for kind, count in counts.most_common(most)]  # fmt: skip
    if len(counts) > most:
        shown.append(f"{counts.total() - sum(c for _, c in counts.most_common(most)):,} of other kinds")
    return printable(", ".join(shown))
