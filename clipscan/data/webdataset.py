"""Tars as webdataset and img2dataset write them, read in place, one pass, one sample in memory.

Members are grouped into samples by tar_groups; the same key in another tar is another sample.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, cast

from clipscan.data.dataset import Dataset, Record, Shard, broken_shard
from clipscan.data.extensions import Rules, make_rules
from clipscan.data.inventory import Inventory, open_binary
from clipscan.data.sample import Sample
from clipscan.data.tar_groups import READ_ERRORS, member_groups
from clipscan.data.tar_sample import MemberGroup
from clipscan.data.text import printable

TAR_EXTENSIONS = ("tar", "tar.gz", "tgz")


class WebDataset(Dataset):
    """Tars of samples; each is a shard. `at` is the byte offset of a sample's first header."""

    format = "webdataset"

    def __init__(self, source: str, shards: list[Shard], notes: str, rules: Rules) -> None:
        super().__init__(source, shards, notes)
        self.rules = rules

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        try:
            with open_tar(shard.location) as (stream, length):
                if only is None:
                    yield from map(_record, member_groups(stream, length, shard.name, self.rules))
                else:
                    yield from self._at(stream, length, shard, only)
        except READ_ERRORS as error:
            yield broken_shard(shard, f"cannot read the tar: {error}")

    def _at(self, stream: BinaryIO, length: int, shard: Shard, rows: Mapping[int, str]) -> Iterator[Record]:
        for at in sorted(rows):
            found = member_groups(stream, length, shard.name, self.rules, start=at)
            group = next((group for group in found if group.outcome is not None), None)
            if group is not None and group.key == rows[at]:
                yield _record(group)


def open_webdataset(
    inventory: Inventory, image_key: str | None, text_key: str | None, rows_per_shard: int
) -> WebDataset:
    """The dataset of all tars of the inventory; a tar named but missing is a shard that reads as Bad."""
    names = inventory.names()
    tars = inventory.of_kind(*TAR_EXTENSIONS)
    shards = [Shard(printable(names[file.path]), *file) for file in tars]
    return WebDataset(inventory.source, shards, "", make_rules(image_key, text_key))


@contextmanager
def open_tar(location: str) -> Iterator[tuple[BinaryIO, int]]:
    """The tar as a seekable stream and its length; gzip is undone on the way (length -1 then)."""
    with open_binary(location) as stream:
        length = stream.seek(0, 2)
        stream.seek(0)
        magic = stream.read(6)
        stream.seek(0)
        if length == 0:
            raise OSError("the file is empty (0 bytes)")
        if magic[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield cast(BinaryIO, unpacked), -1
        elif magic[:3] == b"BZh" or magic == b"\xfd7zXZ\0":
            raise OSError("compressed with bzip2 or xz; repack it as .tar or .tar.gz")
        else:
            yield stream, length


def _record(group: MemberGroup) -> Record:
    at = group.outcome.at if isinstance(group.outcome, Sample) else (group.spans or [(-1, -1)])[0][0]
    return Record(at, group.key, group.outcome, group.kinds)
