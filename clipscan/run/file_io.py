"""Arrays, tables and records of a run, each written by rename (data/atomic.py).

Records wait for the disk; arrays and tables of a run do not. The marker of a task holds their size and digest
(markers.py), so that what a power cut took is made again, and with many small shards the waiting took more
time than the work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data.atomic import replacing, save_array
from clipscan.errors import RunError


def write_array(path: Path, array: np.ndarray[Any, Any], synced: bool = False) -> None:
    """An .npy file, without pickle."""
    with replacing(path, synced=synced) as (draft,):
        save_array(draft, array)


def write_table(path: Path, table: pa.Table, synced: bool = False) -> None:
    """A parquet file; the same table gives the same bytes."""
    with replacing(path, synced=synced) as (draft,):
        pq.write_table(table, draft, compression="zstd")


def write_json(path: Path, value: Any, synced: bool = True) -> None:
    """A JSON file that people can read."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    with replacing(path, synced=synced) as (draft,):
        draft.write_bytes(text.encode("utf-8", "backslashreplace"))  # lone surrogates: \udc80 is JSON as well


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


def storable(value: Any) -> Any:
    """Lone surrogates, which file names may hold, are not UTF-8; parquet stores them escaped."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
