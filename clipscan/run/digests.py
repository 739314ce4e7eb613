"""Files by what they hold: SHA-256, read once each, and whether a file still is what it was."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import NamedTuple

from clipscan.data import Dataset, Shard
from clipscan.data.inventory import File, is_url, open_binary
from clipscan.run.file_io import storable

Files = dict[str, File]
CHUNK = 1 << 20  # bytes read at a time


class Known(NamedTuple):
    """A file as it was when its shard was embedded; sha256 "" where it was not read for it."""

    size: int
    stamp: str
    sha256: str


class Digests:
    """SHA-256 of files by what they hold; a file that several shards lie in is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[File, int], str] = {}

    def of(self, file: File) -> str:
        """ "" where it cannot be read."""
        known = file, _written(file)
        if known not in self._known:
            self._known[known] = ""
            with suppress(OSError), open_binary(file.path) as stream:
                digest = hashlib.sha256()
                while data := stream.read(CHUNK):
                    digest.update(data)
                self._known[known] = digest.hexdigest()
        return self._known[known]


def _written(file: File) -> int:
    """When a local file was last written, in ns, whatever time it was given since (ctime); else 0."""
    try:
        return 0 if is_url(file.path) else os.stat(file.path).st_ctime_ns
    except OSError:
        return 0


READ = Digests()  # of files that this process read to embed them, or to score what they hold


def shard_files(dataset: Dataset, shard: Shard) -> Files:
    """The files of a shard by names that can be stored."""
    return {storable(name): file for name, file in dataset.files(shard).items()}


def stamp_is_content(file: File) -> bool:
    """Whether equal stamps mean equal content: true for the etag of a store, unless it is marked weak."""
    return is_url(file.path) and bool(file.stamp) and not file.stamp.startswith("W/")


def same_content(known: Known, file: File, digests: Digests) -> bool:
    """Whether the file is what it was: by size and stamp, or by its content."""
    if known.size != file.size:
        return False
    return (known.stamp == file.stamp != "") or known.sha256 == digests.of(file)
