"""A dataset without some of its samples, in the same layout, the bytes of the kept ones untouched.

Everything is written into a hidden folder beside the target, which is renamed at the end: a target that
exists is finished. Names come from the dataset and are hostile: none leaves the target.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipscan.data.dataset import Dataset
from clipscan.data.write_files import write_csv, write_folder, write_tars
from clipscan.data.write_judge import Counts, Judge
from clipscan.data.write_tables import write_embeddings, write_parquet
from clipscan.errors import DataError

_WRITERS: dict[str, Callable[[Any, Judge, Path], None]] = {
    "webdataset": write_tars,
    "folder": write_folder,
    "csv": write_csv,
    "parquet": write_parquet,
    "embeddings": write_embeddings,
}


def write_without(
    dataset: Dataset, drop: AbstractSet[tuple[str, str]], to: str | Path, *, drop_bad: bool = True
) -> Counts:
    """Write the dataset to the folder `to`, leaving out the samples `drop` of (shard, key).

    drop_bad: leave out what cannot be read as well; else it is copied as it lies, except the tail of an
    archive that is cut off, a file that cannot be opened at all and whatever lies outside the dataset.
    Beside the samples, members of a tar that belong to none are kept; stray files beside the dataset are
    not copied. Raises DataError if `to` holds something, or `drop` names a shard that is not here.
    """
    known = {shard.name for shard in dataset.shards}
    if foreign := sorted({shard for shard, _ in drop} - known):
        raise DataError(f"the drop list names shard {foreign[0]!r}, which {dataset.source} does not have")
    judge = Judge(drop, drop_bad)
    with _staged(Path(to)) as folder:
        _WRITERS[dataset.format](dataset, judge, folder)
    return judge.counts()


@contextmanager
def _staged(to: Path) -> Iterator[Path]:
    """A folder that becomes `to` if all goes well, and vanishes otherwise."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise DataError(f"{to} exists and is not an empty folder; choose another one or remove it")
    to.parent.mkdir(parents=True, exist_ok=True)
    folder = to.parent / f".{to.name}.{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
        os.replace(folder, to)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
