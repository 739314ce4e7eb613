"""RUN/report/map.parquet: shard, key, x, y of up to MOST samples; `clipscan map` makes it for the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.engine import Rows, as_rows, search
from clipscan.errors import RunError
from clipscan.report.identities import not_scored
from clipscan.report.map.layout import EPOCHS, layout
from clipscan.run.file_io import write_table
from clipscan.run.run import Run

MOST = 100_000  # points
FIT = 20_000  # rows that the principal components are taken from
NAME = "report/map.parquet"

Index = npt.NDArray[np.int64]


class MapPoints(NamedTuple):
    """Points of a map: names [n], positions [n, 2]."""

    pairs: list[tuple[str, str]]
    position: npt.NDArray[np.float32]


def draw_map(run: Run, most: int = MOST, epochs: int = EPOCHS, seed: int = 0) -> int:
    """Write the map of a scored run; how many samples are on it. All of them, or of more than `most` the
    suspects and others drawn at random. RunError for a run that is not scored."""
    if not (run / "suspects.parquet").exists():
        raise RunError(not_scored(run.path))
    names, image = run.names("shard", "key"), run.vectors.image
    rows = _chosen(run, names, most, seed)
    index, distance = _neighbours(run, image, rows)
    found = layout(index, distance, _components(image, rows, seed), epochs, seed)
    table = names.take(pa.array(rows))
    for axis, name in enumerate("xy"):
        table = table.append_column(name, pa.array(found[:, axis]))
    (run / NAME).parent.mkdir(exist_ok=True)
    write_table(run / NAME, table)
    return len(rows)


def read_map(folder: Path) -> MapPoints | None:
    """The map of a run, None where none was drawn or the file is none."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        table = pq.read_table(path, columns=["shard", "key", "x", "y"]).slice(0, MOST)
        position = np.column_stack([table[name].to_numpy() for name in "xy"]).astype(np.float32)
    except (OSError, ValueError, KeyError):  # a stranger's file: the page goes on without
        return None
    known = np.isfinite(position).all(axis=1)
    table = table.filter(pa.array(known))
    pairs = list(zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True))
    return MapPoints(pairs, position[known])


def _chosen(run: Run, names: pa.Table, most: int, seed: int) -> Index:
    """Rows, ascending: all, or the suspects and others at random."""
    n = names.num_rows
    if n <= most:
        return np.arange(n)
    suspects = pq.read_table(run / "suspects.parquet", columns=["shard", "key"])
    listed = set(zip(suspects["shard"].to_pylist(), suspects["key"].to_pylist(), strict=True))
    pairs = zip(names["shard"].to_pylist(), names["key"].to_pylist(), strict=True)
    first = np.flatnonzero(np.fromiter((pair in listed for pair in pairs), bool, n))[:most]
    rest = np.setdiff1d(np.arange(n), first)
    drawn = np.random.default_rng(seed).choice(rest, most - len(first), replace=False)
    return np.sort(np.concatenate([first, drawn]))


def _neighbours(run: Run, image: Rows, rows: Index) -> tuple[Index, Any]:
    """The exact graph where the map holds every row, else one among the rows that it holds."""
    graph = run.graph if len(rows) == image.n else None
    if graph is None:
        k = min(16, len(rows) - 1)
        if k < 1:
            return np.zeros((len(rows), 0), np.int64), np.zeros((len(rows), 0), np.float32)
        graph = search(as_rows(image.take(rows), "image embeddings"), None, k)
    return np.asarray(graph.index, np.int64), np.asarray(graph.distance, np.float32)


def _components(image: Rows, rows: Index, seed: int) -> npt.NDArray[np.float32]:
    """The first two principal components [n, 2] of the rows."""
    sample = np.random.default_rng(seed).permutation(rows)[:FIT]
    fitted = image.take(np.sort(sample)).astype(np.float64)
    mean = fitted.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(fitted - mean, rowvar=False) if len(fitted) > 1 else np.eye(image.d))
    axes = axes[:, ::-1][:, :2]
    parts = [(image.take(part) - mean) @ axes for part in np.array_split(rows, max(1, len(rows) // 10_000))]
    found = np.concatenate(parts).astype(np.float32)
    return found if found.shape[1] == 2 else np.column_stack([found, np.zeros(len(found), np.float32)])
