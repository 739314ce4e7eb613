"""Which shard of a dataset a URL names, as a data loader hands it on.

A URL belongs to the shard whose name ends it, whole path parts at a time ("a/0.tar" ends
"s3://bucket/set/a/0.tar"; it does not end "/set/ba/0.tar"); failing that, to the only shard of the same file
name. Queries, fragments and "pipe:" commands are looked through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from clipscan.data.text import printable
from clipscan.errors import DataError


class ShardUrls:
    """The shards of a dataset, found by URL.

    complete: `shards` are all of them, so that a URL which fits none is an error. root: the URL of the
    dataset's folder; with it a shard's name is what follows in the URL, and nothing is guessed. Immutable but
    for a memory of the last answer; pickles.
    """

    def __init__(self, shards: Iterable[str], *, complete: bool, root: str | None = None) -> None:
        self._named = _by_file_name(shards)
        self._complete = complete
        self._root = None if root is None else "/".join(_parts(root))
        self._last = ("", "")  # a URL and its shard: a stream stays in one shard for thousands of samples

    def find(self, url: str) -> str:
        """The shard's name, "" for none known. DataError where it is ambiguous."""
        last, shard = self._last  # read once: another thread may replace it
        if url != last:
            shard = self._find(url)
            self._last = (url, shard)
        return shard

    def _find(self, url: str) -> str:
        fits = self._under_root(url) if self._root is not None else self._by_ending(url)
        if len(fits) > 1:
            raise DataError(
                f"{url} could be any of the shards {', '.join(map(repr, fits[:4]))};"
                " say where the dataset begins: DropList.load(path, root='/folder/of/the/dataset')"
            )
        if not fits and self._complete:
            raise DataError(
                f"{url} is none of the shards this list was made for; was the dataset renamed?"
                " Filter each dataset with its own list, before mixing; or rename the shards back"
            )
        return fits[0] if fits else ""

    def _under_root(self, url: str) -> list[str]:
        for path in _paths(url):
            name = "/".join(path).removeprefix(f"{self._root}/")
            if name in self._named.get(path[-1], ()):
                return [name]
        return []

    def _by_ending(self, url: str) -> list[str]:
        paths = _paths(url)
        if not paths and url in self._named.get(url, ()):  # "." is a folder's own shard
            return [url]
        same_name = sorted({name for path in paths for name in self._named.get(path[-1], ())})
        ends = [name for name in same_name if any(_ends(path, name) for path in paths)]
        return ends or same_name


def _by_file_name(shards: Iterable[str]) -> dict[str, tuple[str, ...]]:
    named: dict[str, tuple[str, ...]] = {}
    for shard in sorted(shards):
        last = shard.rsplit("/", 1)[-1]
        named[last] = (*named.get(last, ()), shard)
    return named


def _paths(url: str) -> list[list[str]]:
    """The paths that a URL may mean, as parts: one; for a pipe every word of its command."""
    words = re.split(r"[\s'\"|<>;]+", url[5:]) if url.startswith("pipe:") else [url]
    return [parts for parts in map(_parts, words) if parts]


def _parts(url: str) -> list[str]:
    """Path parts: of "https://host/a/0.tar?sig=1#x": https:, host, a, 0.tar."""
    if "://" in url:
        split = urlsplit(url)
        url = f"{split.scheme}:/{split.netloc}{unquote(split.path)}"
    return [printable(part) for part in url.split("/") if part not in ("", ".")]


def _ends(path: list[str], name: str) -> bool:
    parts = _parts(name)
    return path[-len(parts) :] == parts
