"""All rows of a run in the order of their rank, in a file that is mapped: a page of them is a slice.

In memory are the order and a few bytes a row; names, captions and scores stay on the disk. The file lies in a
folder for temporary files and goes with the server.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.errors import RunError
from clipscan.report.choose import ranking
from clipscan.report.identities import batches
from clipscan.report.page.sample_table import number_or_none

SOUGHT = "sought"  # column of caption and key in small letters: what a text is looked for in
BATCH = 65_536  # rows written at a time
HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?:www\.)?(?P<host>[^/?#:]{1,100})"

Places = npt.NDArray[np.int64]
Pair = tuple[str, str]


class RankedRows:
    """Rows by place, 0 the most suspicious; NaN scores come last. RunError for a run that is not scored."""

    def __init__(self, folder: Path, listed: set[Pair]) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="clipscan-serve-")
        path = Path(self._place.name) / "rows.arrow"
        self.order = _write(folder, path, listed)
        pa.default_memory_pool().release_unused()
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        self._parts = [file.get_batch(i) for i in range(file.num_record_batches)]
        self.table = pa.Table.from_batches(self._parts, file.schema)
        self._shown = [name for name in self.table.column_names if name != SOUGHT]
        self.score = self.table["score"].to_numpy()
        self.by_row = np.empty(len(self.order), np.int64)
        self.by_row[self.order] = np.arange(len(self.order))

    def __len__(self) -> int:
        return len(self.order)

    def close(self) -> None:
        """Remove the file."""
        self._place.cleanup()

    def rows(self, places: Places) -> list[dict[str, Any]]:
        """What the page shows of rows by place."""
        part, inside = np.divmod(np.asarray(places, np.int64), BATCH)
        found = {
            int(place): row
            for number in np.unique(part)
            for place, row in zip(
                places[part == number], self._taken(number, inside[part == number]), strict=True
            )
        }
        return [
            {**found[place], "score": number_or_none(found[place]["score"]), "rank": place + 1}
            for place in map(int, places)
        ]

    def _taken(self, part: int, inside: Places) -> list[dict[str, Any]]:
        taken = self._parts[part].select(self._shown).take(pa.array(inside))
        found: list[dict[str, Any]] = taken.to_pylist()
        return found

    def place_of(self, shard: str, key: str) -> int | None:
        """The place of a sample, None where there is no such one."""
        same = pc.and_(pc.equal(self.table["key"], key), pc.equal(self.table["shard"], shard))
        found = np.flatnonzero(same.to_numpy())
        return int(found[0]) if len(found) else None

    def choices(self, name: str, most: int = 500) -> list[str]:
        """The distinct values of a column, the commonest `most` of them, in the order of the alphabet."""
        counted = pc.value_counts(self.table[name]).to_pylist()
        counted.sort(key=lambda one: -one["counts"])
        return sorted(one["values"] for one in counted[:most] if one["values"])


def _write(folder: Path, path: Path, listed: set[Pair]) -> Places:
    """The rows in the order of their rank; returns that order, as numbers of rows."""
    score = _scores(folder)
    order = np.argsort(-score, kind="stable").astype(np.int64)
    table = _metadata(folder).combine_chunks().append_column("score", pa.array(score))
    if table.num_rows != len(score):
        raise RunError(f"{folder} has {len(score)} scores and {table.num_rows} names; score it again")
    keys = pa.array(sorted({key for _, key in listed}), pa.large_string())
    with pa.OSFile(str(path), "wb") as sink:
        writer = None
        for start in range(0, max(1, len(order)), BATCH):
            part = table.take(pa.array(order[start : start + BATCH]))
            part = part.append_column("listed", _is_listed(part, listed, keys))
            part = part.append_column(SOUGHT, _sought(part)).combine_chunks()
            writer = writer or pa.ipc.new_file(sink, part.schema)
            writer.write_table(part, max_chunksize=BATCH)
        assert writer is not None
        writer.close()
    return order


def _scores(folder: Path) -> npt.NDArray[np.float64]:
    files = sorted((folder / "scores").glob("*.parquet"))
    if not files:
        raise RunError(f"{folder} is not scored yet; run the score stage: clipscan score {folder}")
    method = ranking(folder, pq.read_schema(files[0]).names)
    parts = [one.column(0).to_numpy(zero_copy_only=False) for one in batches(files, [method])]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float64)


def _metadata(folder: Path) -> pa.Table:
    files = sorted((folder / "embeddings" / "metadata").glob("*.parquet"))
    parts = [_columns(batch) for batch in batches(files, ["shard", "key", "caption", "url", "at"])]
    return pa.Table.from_batches(parts)


def _columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    host = pc.struct_field(pc.extract_regex(batch.column("url"), HOST), "host").fill_null("")
    caption = pc.utf8_slice_codeunits(batch.column("caption"), 0, 2000)
    at = batch.column("at").fill_null(-1)
    texts = [batch.column("shard"), batch.column("key"), caption, host]
    columns = [*(text.cast(pa.large_string()) for text in texts), at]  # together they may exceed 2 GiB
    return pa.RecordBatch.from_arrays(columns, names=["shard", "key", "caption", "domain", "at"])


def small(text: str) -> str:
    """In the small letters of the column SOUGHT; str.lower has others, as of a capital dotted i."""
    lowered: str = pc.utf8_lower(pa.scalar(text)).as_py()
    return lowered


def _sought(part: pa.Table) -> pa.Array:
    return pc.binary_join_element_wise(
        pc.utf8_lower(part["caption"]), pc.utf8_lower(part["key"]), pa.scalar("\n", pa.large_string())
    )


def _is_listed(part: pa.Table, listed: set[Pair], keys: pa.Array) -> pa.Array:
    hits = pc.is_in(part["key"], value_set=keys).to_numpy()
    found = hits.copy()
    for i in np.flatnonzero(hits):
        found[i] = (part["shard"][i].as_py(), part["key"][i].as_py()) in listed
    return pa.array(found)
