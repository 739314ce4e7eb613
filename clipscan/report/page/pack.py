"""The pictures of the review as one text: base64 of each, one behind the other, and where each begins.

A picture that the sections without scripts show is taken from there, and is in the file once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from clipscan.report.album import Album, Want

IN_PAGE, NONE = -1, -2  # instead of a place in the text


class Pack(NamedTuple):
    """text: base64; place: of each sample, [start, length], or IN_PAGE or NONE and the number of its reason;
    of: the number of the sample of a picture in the page."""

    text: str
    place: dict[int, list[int]]
    reasons: list[str]
    of: dict[tuple[str, str], int]

    def number(self, want: Want) -> int | None:
        """The sample's number, where the review takes its picture from the page."""
        return self.of.get((want.shard, want.key))

    def places(self) -> dict[str, Any]:
        """For JSON."""
        return {"pictures": {"place": self.place, "reasons": self.reasons}}


def pack(album: Album, wants: Mapping[int, Want], in_page: Iterable[Want]) -> Pack:
    """The pictures of `wants` (by number of the sample) that are not `in_page` as large as wanted."""
    largest: dict[tuple[str, str], int] = {}
    for want in in_page:
        if want in album and album[want].uri:
            pair = (want.shard, want.key)
            largest[pair] = max(largest.get(pair, 0), want.side)
    pieces: list[str] = []
    place: dict[int, list[int]] = {}
    reasons: dict[str, int] = {}
    of: dict[tuple[str, str], int] = {}
    at = 0
    for number, want in wants.items():
        pair = (want.shard, want.key)
        if largest.get(pair, 0) >= want.side:
            place[number], of[pair] = [IN_PAGE, 0], number
            continue
        made = album.get(want)
        if made is None or not made.uri:
            reason = made.reason if made else ""
            place[number] = [NONE, reasons.setdefault(reason, len(reasons))]
            continue
        encoded = made.uri.partition(",")[2]
        pieces.append(encoded)
        place[number] = [at, len(encoded)]
        at += len(encoded)
    return Pack("".join(pieces), place, list(reasons), of)
