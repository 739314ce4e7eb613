"""What the embed stage made, read again in one order for all: vectors, untrained features, names.

Each function raises Damaged where a file is not what the stage wrote; `run.vectors` and its like keep what
they return.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.engine import Rows, as_rows
from clipscan.errors import RunError
from clipscan.run.digests import READ
from clipscan.run.listing import Listing
from clipscan.run.markers import check_intact, rows_in
from clipscan.run.run_folder import RunFolder

if TYPE_CHECKING:
    from clipscan.run.run import Run


class RunVectors(NamedTuple):
    """Vectors of pictures [n, d] and of captions [n, d] or None, and how many rows each shard has."""

    image: Rows
    text: Rows | None
    counts: list[int]


def map_vectors(run: Run) -> RunVectors:
    """The vectors of a finished embed stage, memory-mapped; only the sizes of their files are looked at."""
    images: list[Any] = []
    texts: list[Any] = []
    counts = shard_rows(run)
    _sound(run, counts, deep=False)
    for shard, count in _filled(counts):
        if run.image(shard).exists():
            image = _mapped(run.image(shard))
            text = _mapped(run.text(shard)) if run.text(shard).exists() else None
        else:
            found = run.dataset.vectors(run.dataset.shards[shard])
            image, text = found.image, found.text
        _check_rows(shard, image, "vectors", count)
        images.append(image)
        texts.append(text)
    full = [text for text in texts if text is not None]
    return RunVectors(
        as_rows(images, "image embeddings"),
        as_rows(full, "caption embeddings") if len(full) == len(images) else None,
        counts,
    )


def verify_vectors(run: Run) -> None:
    """Read every byte of the vectors. Damaged where they are not what the stage wrote, DataError where the
    dataset's own are not what was scanned."""
    counts = shard_rows(run)
    _sound(run, counts, deep=True)
    given = [shard for shard, _ in _filled(counts) if not run.image(shard).exists()]
    listing = Listing(run) if given else None
    for shard in given:
        assert listing is not None
        listing.verify(run.dataset, run.dataset.shards[shard], READ)


def read_untrained(run: RunFolder) -> Rows | None:
    """Untrained features [n, 688] of a finished embed stage, memory-mapped, in the order of the vectors.

    None where a shard has none: vectors that were given, not made of pictures here, and shards that
    an older clipscan embedded without them.
    """
    filled = list(_filled(shard_rows(run)))
    check_intact(*(run.untrained_file(shard) for shard, _ in filled))
    if not filled or not all(run.untrained_file(shard).exists() for shard, _ in filled):
        return None
    parts = []
    for shard, count in filled:
        part = _mapped(run.untrained_file(shard))
        _check_rows(shard, part, "rows of untrained features", count)
        parts.append(part)
    return as_rows(parts, "untrained features")


def shard_rows(run: RunFolder) -> list[int]:
    """Embedded samples of each shard. RunError where the stage has not ended."""
    shards = run.record.get("dataset", {}).get("shards", [])
    paths = [run.metadata(shard) for shard in range(len(shards))]
    check_intact(*paths, deep=False)
    if not paths or not all(path.exists() for path in paths):
        raise RunError(
            f"{run.path} is not embedded to its end; run clipscan embed or scan with --out {run.path}"
        )
    return [rows_in(path) for path in paths]


def filled_shards(run: RunFolder) -> list[int]:
    """The shards that hold any sample; the others have no tables."""
    return [shard for shard, _ in _filled(shard_rows(run))]


def read_names(run: RunFolder, columns: tuple[str, ...]) -> pa.Table:
    """These columns of the metadata of all embedded samples, in the order of the vectors."""
    paths = [run.metadata(shard) for shard in range(len(shard_rows(run)))]
    check_intact(*paths)
    return pa.concat_tables([pq.read_table(path, columns=list(columns)) for path in paths])


def _filled(counts: list[int]) -> Iterator[tuple[int, int]]:
    """Number and rows of each shard that is not bad as a whole: of the others there is nothing to open."""
    return ((shard, count) for shard, count in enumerate(counts) if count)


def _sound(run: RunFolder, counts: list[int], deep: bool) -> None:
    check_intact(
        *(path for shard in range(len(counts)) for path in (run.image(shard), run.text(shard))), deep=deep
    )


def _mapped(path: Any) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _check_rows(shard: int, rows: Any, what: str, count: int) -> None:
    if len(rows) != count:
        raise RunError(f"shard {shard} has {len(rows)} {what} and {count} rows of metadata; embed it again")
