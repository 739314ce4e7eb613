"""Fetches the pictures that the page shows, shard by shard, and makes thumbnails of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from clipscan.report.thumbnails import Thumbnail, Thumbnailer

if TYPE_CHECKING:
    from clipscan.data.dataset import Dataset, Shard

LARGE, SMALL = 160, 112  # longest side in pixels: a suspect, a neighbour or member of a group
MAX_URI_BYTES = 15 << 20  # all pictures of one page, which then stays below 20 MB with its text

FULL = Thumbnail(reason="left out: the page is full")
GONE = Thumbnail(reason="not found in the dataset any more")


class Want(NamedTuple):
    """A picture that the page has a place for."""

    shard: str
    key: str
    at: int  # Sample.at
    side: int
    quality: int = 0  # of WebP; 0: PNG or JPEG, for the sections that need no scripts


Album = dict[Want, Thumbnail]


def why_none(dataset: Dataset | None) -> str:
    """Why there can be no pictures, "" if there can."""
    if dataset is None:
        return "The dataset was not at hand when this page was made, so it has no pictures."
    if dataset.format == "embeddings":
        return "The dataset consists of embeddings only, so there are no pictures to show."
    if importlib.util.find_spec("PIL") is None:
        return "Pillow is not installed, so there are no pictures. pip install 'clipscan[embed]' brings it."
    return ""


def make_album(dataset: Dataset | None, wants: Iterable[Want]) -> Album:
    """A thumbnail for every want, most important first: where the page's budget ends, the rest is left out.

    Never raises for what a dataset holds: a picture that cannot be had is a Thumbnail with a reason.
    """
    ordered = list(dict.fromkeys(wants))
    if dataset is None or why_none(dataset):
        return {}
    by_shard: dict[str, list[Want]] = {}
    for want in ordered:
        by_shard.setdefault(want.shard, []).append(want)
    shards = {shard.name: shard for shard in dataset.shards}
    album: Album = {}
    with Thumbnailer() as worker:
        for name in sorted(by_shard):
            album.update(_of_shard(dataset, shards.get(name), by_shard[name], worker))
    return _within_budget(ordered, album)


def _of_shard(dataset: Dataset, shard: Shard | None, wants: list[Want], worker: Thumbnailer) -> Album:
    album = dict.fromkeys(wants, GONE)
    if shard is None:
        return album
    sides: dict[str, list[Want]] = {}
    for want in wants:
        sides.setdefault(want.key, []).append(want)
    try:
        for sample in dataset.fetch(shard, {want.key: want.at for want in wants}):
            for want in sides.get(sample.key, ()):
                none = Thumbnail(reason="the sample holds no picture")
                album[want] = worker.make(sample.image, want.side, want.quality) if sample.image else none
    except Exception as wrong:  # a network, a driver, a changed file: the page goes on without these pictures
        reason = Thumbnail(reason=f"cannot read the shard: {wrong}"[:200])
        album = {want: reason if found is GONE else found for want, found in album.items()}
    return album


def _within_budget(ordered: Iterable[Want], album: Mapping[Want, Thumbnail]) -> Album:
    left = MAX_URI_BYTES
    kept: Album = {}
    for want in ordered:
        left -= len(album[want].uri)
        kept[want] = album[want] if left >= 0 or not album[want].uri else FULL
    return kept
