"""Writing without some samples: parquet tables and arrays of embeddings, rows left out one by one."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clipscan.data.array_files import NAMED, array_shape
from clipscan.data.arrays import load_npz_array, map_npy, npz_names
from clipscan.data.dataset import Dataset, Shard, whole_name
from clipscan.data.embedding_parts import Part
from clipscan.data.embeddings import Embeddings
from clipscan.data.filter_parquet import filter_parquet
from clipscan.data.filter_safetensors import filter_safetensors
from clipscan.data.inventory import extension
from clipscan.data.parquet import ParquetPictures
from clipscan.data.parquet_files import open_parquet_file
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
            part = dataset.parts[shards[0].name]
            for path in part.files():
                _filter_file(part, path, target(folder, dataset.names.get(path, Path(path).name)), rows)
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


def _filter_file(part: Part, path: str, to: Path, rows: np.ndarray) -> None:
    """One of the part's files without the other rows; in files of named arrays the pictures' array says how
    many rows there are, and captions have as many."""
    if (kind := extension(path)) in NAMED:
        total = array_shape(path, part.image_name)[0]
        _check(path, total, rows)
        (_filter_npz if kind == "npz" else filter_safetensors)(path, to, rows, total)
    else:
        (_filter_npy if kind == "npy" else filter_parquet)(path, to, rows)


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


def _filter_npz(path: str, to: Path, rows: np.ndarray, total: int) -> None:
    """The `rows` of every array that has `total` of them; other arrays as they are."""
    with zipfile.ZipFile(to, "x") as archive:  # np.savez trips over an array named "file"
        for name in dict.fromkeys(npz_names(path)):
            array = load_npz_array(path, name)
            array = array[rows] if array.ndim and len(array) == total else array
            with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def _check(path: str, total: int, rows: np.ndarray) -> None:
    if len(rows) and rows[-1] >= total:
        raise DataError(f"{path} has {total:,} rows, its metadata has more; they do not belong together")
