"""Writing is a rename: a file that exists is finished."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.errors import RunError


@contextmanager
def replacing(*targets: Path) -> Iterator[list[Path]]:
    """Temporary names beside `targets`; renamed to them, in that order, when the block ends well.

    After an exception the temporary files are removed and the targets are as before. A target whose
    temporary file was never written is left alone. Data is on the disk before its name is.
    """
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    drafts = [target.with_name(f".{target.name}.{os.getpid()}.part") for target in targets]
    try:
        yield drafts
        written = [(draft, target) for draft, target in zip(drafts, targets, strict=True) if draft.exists()]
        for draft, _ in written:
            _sync(draft)
        for draft, target in written:
            os.replace(draft, target)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """An .npy file, without pickle."""
    with replacing(path) as (draft,), draft.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_table(path: Path, table: pa.Table) -> None:
    """A parquet file; the same table gives the same bytes."""
    with replacing(path) as (draft,):
        pq.write_table(table, draft, compression="zstd")


def write_json(path: Path, value: Any) -> None:
    """A JSON file that people can read."""
    with replacing(path) as (draft,):
        draft.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, {} where there is no such file; RunError where it is something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RunError(f"{path} is not JSON ({error}); remove it to do this part again") from error
    if not isinstance(value, dict):
        raise RunError(
            f"{path} holds a {type(value).__name__}, not an object; remove it to do this part again"
        )
    return value


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
