"""What a run was made from, file by file, and whether the dataset still is that.

    RUN/listing.parquet    shard, start, stop, shard_size, shard_stamp, file, size, stamp, sha256

Size and stamp (mtime, etag) decide; where they differ, the content does, so that a copy passes. A file at a
URL has no digest where its stamp stands for its content; nor has one that cannot be read.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.data import Dataset, Shard
from clipscan.errors import DataError, RunError
from clipscan.run.digests import Digests, Files, Known, same_content, shard_files, stamp_is_content
from clipscan.run.file_io import storable, write_table
from clipscan.run.markers import Damaged, check_intact, reseal
from clipscan.run.run_folder import RunFolder

SCHEMA = pa.schema(
    [
        ("shard", pa.string()), ("start", pa.int64()), ("stop", pa.int64()),
        ("shard_size", pa.int64()), ("shard_stamp", pa.string()),
        ("file", pa.string()), ("size", pa.int64()), ("stamp", pa.string()), ("sha256", pa.string()),
    ]
)  # fmt: skip
CONTENTS = ["shard", "file", "size", "stamp", "sha256"]
SCAN_AGAIN = "Put the files back, or scan again with --overwrite: what is the same is not embedded again"


def listed(dataset: Dataset, shard: Shard, before: Files, digests: Digests) -> pa.Table:
    """The rows of one shard whose files were `before` when reading began. RunError where they are not now."""
    sha256 = ["" if stamp_is_content(file) else digests.of(file) for file in before.values()]
    after = shard_files(dataset, shard)
    if moved := [name for name in before | after if before.get(name) != after.get(name)]:
        raise RunError(
            f"{moved[0]} changed while it was read; scan again when no other program writes to the dataset: "
            "what is finished is kept"
        )
    start, stop = shard.rows or (None, None)
    columns = [
        *([value] * len(before) for value in (storable(shard.name), start, stop, shard.size, shard.stamp)),
        list(before), [file.size for file in before.values()], [file.stamp for file in before.values()],
        sha256,
    ]  # fmt: skip
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _is_sound(path: Path) -> bool:
    """Whether it is there, as it was written; else its task is undone, and what it lists is embedded anew."""
    try:
        check_intact(path)
    except Damaged:
        return False
    return path.exists()


def _shard(row: dict[str, Any]) -> tuple[int, str, tuple[int, int] | None]:
    rows = None if row["start"] is None else (row["start"], row["stop"])
    return row["shard_size"], row["shard_stamp"], rows


class Listing:
    """The listing of a run, of those shards that are embedded."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.path = run / "listing.parquet"
        self.table = pq.read_table(self.path) if _is_sound(self.path) else self._parts()
        names = self.table["shard"].cast(pa.large_string()).combine_chunks()  # may hold more than 2 GB
        numbers = names.dictionary_encode().indices.to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1)).tolist()  # where a shard begins
        firsts = self.table.take(pa.array(starts[:-1], pa.int64())).to_pylist()
        # By the shard's name: its rows here; its size, its stamp and its rows in the dataset.
        self.rows = {one["shard"]: span for one, span in zip(firsts, pairwise(starts), strict=True)}
        self.shards = {one["shard"]: _shard(one) for one in firsts}
        self.restamped: dict[int, str] = {}  # row -> stamp of a file that holds the same under another
        unsure = pc.and_(pc.equal(self.table["stamp"], ""), pc.not_equal(self.table["sha256"], ""))
        self.doubted = set(self.table["shard"].filter(unsure).to_pylist())

    def _parts(self) -> pa.Table:
        shards = self.run.record.get("dataset", {}).get("shards", [])
        parts = [path for number in range(len(shards)) if _is_sound(path := self.run.listing(number))]
        return pa.concat_tables([SCHEMA.empty_table(), *(pq.read_table(path) for path in parts)])

    def contents(self) -> str:
        """A digest of all files by what they hold; stamps count only where they stand for it."""
        digest = hashlib.sha256()
        for shard, name, size, stamp, sha256 in zip(
            *self.table.select(CONTENTS).to_pydict().values(), strict=True
        ):
            digest.update(json.dumps([shard, name, size, sha256 or stamp]).encode())
        return digest.hexdigest()

    def files(self, name: str) -> dict[str, Known]:
        """The files that the shard had, by name."""
        start, stop = self.rows[name]
        part = self.table.slice(start, stop - start).select(["file", "size", "stamp", "sha256"]).to_pydict()
        return dict(zip(part["file"], map(Known, part["size"], part["stamp"], part["sha256"]), strict=True))

    def is_same(self, dataset: Dataset, shard: Shard, digests: Digests) -> bool:
        """Whether the shard is what it was: by its stamp, else file by file."""
        name = storable(shard.name)
        size, stamp, rows = self.shards[name]
        if rows != shard.rows:
            return False
        told = dataset.stamped and stamp and name not in self.doubted
        if told and (size, stamp) == (shard.size, shard.stamp):
            return True
        known, files = self.files(name), shard_files(dataset, shard)
        if known.keys() != files.keys():
            return False
        same = all(same_content(known[name], file, digests) for name, file in files.items())
        if same:
            at = self.rows[name][0]
            stamps = {at + i: files[name].stamp for i, name in enumerate(known)}
            self.restamped |= {i: s for i, s in stamps.items() if s != self.table["stamp"][i].as_py()}
        return same

    def remember(self) -> None:
        """Keep the stamps under which contents were found to be the same: they are read once."""
        if self.restamped and self.path.exists():
            stamps = self.table["stamp"].to_pylist()
            for row, stamp in self.restamped.items():
                stamps[row] = stamp
            place = self.table.column_names.index("stamp")
            table = self.table.set_column(place, "stamp", pa.array(stamps, pa.string()))
            with suppress(OSError, RunError):  # a run folder that cannot be written can be read all the same
                write_table(self.path, table)
                reseal(self.path)

    def verify(self, dataset: Dataset, shard: Shard, digests: Digests) -> None:
        """DataError where a file does not hold what was scanned, whatever its stamp: then all stamps
        are forgotten, and the next comparison goes by contents."""
        files = shard_files(dataset, shard)
        for file, known in self.files(storable(shard.name)).items():
            if known.sha256 and (file not in files or digests.of(files[file]) != known.sha256):
                digested = enumerate(self.table["sha256"].to_pylist())
                self.restamped = {row: "" for row, sha256 in digested if sha256}
                self.remember()
                raise DataError(
                    f"{file} does not hold what was scanned, though its size and time say so. {SCAN_AGAIN}"
                )
