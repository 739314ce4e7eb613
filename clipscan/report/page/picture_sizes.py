"""How large the pictures of the review are: as large as lets all of them into one file.

A few of the dataset's own pictures are made in every size, and the largest size is taken of which all would
fit: photographs, drawings and tiny pictures differ tenfold in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from clipscan.report.album import Album, Want, make_album

if TYPE_CHECKING:
    from clipscan.data.dataset import Dataset

FEW = 300  # pictures, which fit in any size
TRIED = 40  # pictures that are made in every size


class Picture(NamedTuple):
    """One that the review has a place for; large: of a suspect."""

    shard: str
    key: str
    at: int
    large: bool


class Sizes(NamedTuple):
    """Longest sides in pixels, and quality of WebP."""

    large: int
    small: int
    quality: int

    def want(self, picture: Picture) -> Want:
        """The picture in this size."""
        return Want(*picture[:3], self.large if picture.large else self.small, self.quality)


SIZES = (
    Sizes(160, 112, 85), Sizes(144, 96, 80), Sizes(128, 80, 75), Sizes(112, 72, 70), Sizes(96, 64, 65),
    Sizes(80, 56, 60),
)  # fmt: skip


def sized(dataset: Dataset | None, pictures: Mapping[int, Picture], room: int) -> dict[int, Want]:
    """The pictures by number, in the largest size of which all take at most `room` bytes as data: URIs."""
    size = _fitting(dataset, pictures, room)
    return {number: size.want(one) for number, one in pictures.items()}


def _fitting(dataset: Dataset | None, pictures: Mapping[int, Picture], room: int) -> Sizes:
    if len(pictures) <= FEW:
        return SIZES[0]
    every = max(1, len(pictures) // TRIED)
    tried = list(pictures.values())[::every]
    album = make_album(dataset, [size.want(one) for one in tried for size in SIZES])
    return next((size for size in SIZES if _bytes(album, tried, pictures, size) <= room), SIZES[-1])


def _bytes(album: Album, tried: list[Picture], pictures: Mapping[int, Picture], size: Sizes) -> float:
    """How many all pictures would take, by those that were tried."""
    total = 0.0
    for large in (True, False):
        made = [album[size.want(one)].uri for one in tried if one.large == large and size.want(one) in album]
        lengths = [len(uri) for uri in made if uri]
        count = sum(one.large == large for one in pictures.values())
        total += count * (fmean(lengths) if lengths else 0.0)
    return total
