"""Writing without some samples: parquet tables and arrays of embeddings, rows left out one by one."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clipscan.data.arrays import load_npz_array, map_npy, npz_names, npz_shape
from clipscan.data.dataset import Dataset, Shard, whole_name
from clipscan.data.embeddings import Embeddings
from clipscan.data.filter_parquet import filter_parquet
from clipscan.data.inventory import extension
from clipscan.data.parquet import ParquetPictures
from clipscan.data.parquet_files import open_parquet_file
from clipscan.data.safetensors import filter_safetensors
from clipscan.data.write_judge import Judge, by_file, target
from clipscan.errors import DataError

CHUNK_ROWS = 65_536


def write_parquet(dataset: ParquetPictures, judge: Judge, folder: Path) -> Iterator[Shard]:
    """Every file with its schema, row groups and compression; one that cannot be opened is left out."""
    for location, shards in by_file(dataset).items():
        rows = np.concatenate([_kept_rows(dataset, shard, judge) for shard in shards])
        if len(rows) or _readable(location):
            filter_parquet(location, target(folder, whole_name(shards[0])), rows)
        yield from shards


def write_embeddings(dataset: Embeddings, judge: Judge, folder: Path) -> Iterator[Shard]:
    """Arrays and metadata, the same rows left out of each; files that do not pair are left out."""
    for shards in by_file(dataset).values():
        rows = np.concatenate([_kept_rows(dataset, shard, judge) for shard in shards])
        if len(rows) or any(_pairs(dataset, shard) for shard in shards):
            for path in dataset.parts[shards[0].name].files():
                to = target(folder, dataset.names.get(path, Path(path).name))
                _FILTERS.get(extension(path), filter_parquet)(path, to, rows)
        yield from shards


def _pairs(dataset: Embeddings, shard: Shard) -> bool:
    """Can its arrays and metadata be read together?"""
    try:
        dataset.vectors(shard)
        return True
    except DataError:
        return False


def _kept_rows(dataset: Dataset, shard: Shard, judge: Judge) -> np.ndarray:
    """Row numbers that stay [kept] int64, ascending; a shard that breaks keeps those before."""
    judge.begin(shard)
    kept = (r for r in dataset.records(shard) if judge.keeps(shard.name, r.key, r.outcome))
    return np.asarray([record.at for record in kept if record.at >= 0], dtype=np.int64)


def _readable(path: str) -> bool:
    try:
        with open_parquet_file(path):
            return True
    except DataError:
        return False


def _filter_npy(path: str, to: Path, rows: np.ndarray) -> None:
    """Rows of a .npy, copied in chunks: the map may be larger than the memory."""
    array = map_npy(path)
    _check(path, len(array), rows)
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False,
              "shape": (len(rows), array.shape[1])}  # fmt: skip
    with open(to, "xb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(rows), CHUNK_ROWS):
            out.write(np.ascontiguousarray(array[rows[start : start + CHUNK_ROWS]]).tobytes())


def _filter_npz(path: str, to: Path, rows: np.ndarray) -> None:
    """All arrays of an .npz that have one entry per row; others as they are."""
    shapes = {name: npz_shape(path, name) for name in npz_names(path)}
    total = max((shape[0] for shape in shapes.values() if shape), default=0)
    _check(path, total, rows)
    with zipfile.ZipFile(to, "x") as archive:  # np.savez trips over an array named "file"
        for name, shape in shapes.items():
            array = load_npz_array(path, name)
            array = array[rows] if shape and shape[0] == total else array
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def _check(path: str, total: int, rows: np.ndarray) -> None:
    if len(rows) and rows[-1] >= total:
        raise DataError(f"{path} has {total:,} rows, its metadata has more; they do not belong together")


_FILTERS = {"npy": _filter_npy, "npz": _filter_npz, "safetensors": filter_safetensors}
