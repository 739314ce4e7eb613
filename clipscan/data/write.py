"""A dataset without some of its samples, in the same layout, the bytes of the kept ones untouched.

Everything is written into a hidden folder beside the target, which is renamed at the end: a target that
exists is finished. Names come from the dataset and are hostile: none leaves the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from clipscan.data.dataset import Dataset, Shard
from clipscan.data.write_files import write_csv, write_folder, write_tars
from clipscan.data.write_judge import Counts, Judge
from clipscan.data.write_tables import write_embeddings, write_parquet
from clipscan.data.write_target import staged
from clipscan.errors import DataError

# Each yields a shard when the bytes of its files have been copied.
_WRITERS: dict[str, Callable[[Any, Judge, Path], Iterator[Shard]]] = {
    "webdataset": write_tars,
    "folder": write_folder,
    "csv": write_csv,
    "parquet": write_parquet,
    "embeddings": write_embeddings,
}


def write_without(
    dataset: Dataset,
    drop: AbstractSet[tuple[str, str]],
    to: str | Path,
    *,
    drop_bad: bool = True,
    scanned: Callable[[Shard], AbstractSet[str]] | None = None,
    verify: Callable[[Shard], None] | None = None,
) -> Counts:
    """Write the dataset to the folder `to`, leaving out the samples `drop` of (shard, key).

    drop_bad: leave out what cannot be read as well; else it is copied as it lies, except the tail of an
    archive that is cut off, a file that cannot be opened at all and whatever lies outside the dataset.
    scanned: the keys of a shard that are known; others count as bad, and all of them must be there.
    verify: called for each shard when it is copied; what it raises keeps the target from getting its name.
    Beside the samples, members of a tar that belong to none are kept; stray files beside the dataset are
    not copied. Raises DataError if `to` holds something, if `drop` names a shard that is not here, or a
    sample that is not found; nothing is left behind then.
    """
    known = {shard.name for shard in dataset.shards}
    if foreign := sorted({shard for shard, _ in drop} - known):
        raise DataError(f"the drop list names shard {foreign[0]!r}, which {dataset.source} does not have")
    judge = Judge(drop, drop_bad, scanned)
    with staged(Path(to)) as folder:
        for shard in _WRITERS[dataset.format](dataset, judge, folder):
            if verify:
                verify(shard)
        return judge.finish()
