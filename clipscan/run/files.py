"""Arrays, tables and records of a run, each written by rename (data/atomic.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data.atomic import replacing, save_array, write_bytes
from clipscan.errors import RunError


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """An .npy file, without pickle."""
    with replacing(path) as (draft,):
        save_array(draft, array)


def write_table(path: Path, table: pa.Table) -> None:
    """A parquet file; the same table gives the same bytes."""
    with replacing(path) as (draft,):
        pq.write_table(table, draft, compression="zstd")


def write_json(path: Path, value: Any) -> None:
    """A JSON file that people can read."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # lone surrogates: \udc80 is JSON as well


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
