"""Identities of the samples of a run, and any other columns, streamed from its parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.errors import RunError
from clipscan.run.markers import check_intact, complete, rows_in

BATCH_ROWS = 65_536  # identities held as Python strings at a time: about 20 MB


def identities(folder: Path) -> Iterator[pa.RecordBatch]:
    """Batches of (shard, key, uid), in the row order of the embeddings; uid is "" where there is none."""
    yield from batches(_metadata(folder), ["shard", "key", "uid"])


def embedded(folder: Path) -> int:
    """How many samples the run holds embeddings of; reads the footers only."""
    return sum(map(rows_in, _metadata(folder)))


def _metadata(folder: Path) -> list[Path]:
    complete(folder, "embed", "embeddings/metadata")
    files = sorted((folder / "embeddings" / "metadata").glob("*.parquet"))
    if not files:
        raise RunError(f"{folder} has no embeddings/metadata; embed it: clipscan scan DATASET --out {folder}")
    return files


def batches(files: list[Path], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Record batches of `columns` from parquet files, strings' nulls as ""; Damaged where they are."""
    check_intact(*files)
    for path in files:
        with pq.ParquetFile(path) as file:
            missing = set(columns) - set(file.schema_arrow.names)
            if missing:
                raise RunError(
                    f"{path} lacks the columns {sorted(missing)}; was it written by another version?"
                )
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                filled = [_no_nulls(batch.column(name)) for name in columns]
                yield pa.RecordBatch.from_arrays(filled, names=columns)


def _no_nulls(column: pa.Array) -> pa.Array:
    return column.fill_null("") if pa.types.is_string(column.type) else column


def bad_pairs(folder: Path) -> set[tuple[str, str]]:
    """(shard, key) of what could not be read, as bad.parquet names it."""
    path = folder / "bad.parquet"
    check_intact(path)
    if not path.exists():
        return set()
    table = pq.read_table(path, columns=["shard", "key"])
    return set(zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True))


def not_scored(folder: Path) -> str:
    """The error text for a run that has vectors and no scores."""
    return f"{folder} is not scored yet; run the score stage: clipscan score {folder}"
