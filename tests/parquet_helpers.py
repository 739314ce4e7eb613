"""Parquet files of two pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from data_helpers import JPEG, read_all

from clipscan.data import Bad, Sample, open_dataset

TEXTS = ["one", "two"]
IMAGES = [JPEG, JPEG + b"2"]


def write(to: Path, **columns: Any) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), to)
    return to


def pairs(source: Path, **options: str) -> list[tuple[bytes | None, str]]:
    outcomes = read_all(open_dataset(source, **options))
    assert not [one for one in outcomes if isinstance(one, Bad)], outcomes
    return [(one.image, one.caption) for one in outcomes if isinstance(one, Sample)]


def reasons(source: Path, **options: str) -> list[str]:
    return [one.reason for one in read_all(open_dataset(source, **options)) if isinstance(one, Bad)]


WANTED = list(zip(IMAGES, TEXTS, strict=True))
