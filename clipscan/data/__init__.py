"""Files in, samples out: every layout of an image-text dataset behind one door.

    dataset = open_dataset("shards/{00000..00331}.tar")
    for shard in dataset.shards:
        for sample in dataset.read(shard):      # Sample, or Bad with its reason

Everything found in the data is hostile; the readers answer with a Bad, never with an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from clipscan.data.csv_table import open_csv
from clipscan.data.dataset import Dataset, Shard, Vectors
from clipscan.data.detect import detect, nothing_found
from clipscan.data.embeddings import open_embeddings
from clipscan.data.files import Inventory, absolute_place, places_of, take_inventory
from clipscan.data.folder import open_folder
from clipscan.data.parquet import open_parquet
from clipscan.data.sample import Bad, Sample
from clipscan.data.webdataset import open_webdataset
from clipscan.data.without import Without
from clipscan.data.write import Counts, write_without
from clipscan.errors import InputError

__all__ = [
    "Bad",
    "Counts",
    "Dataset",
    "Sample",
    "Shard",
    "Vectors",
    "Without",
    "open_dataset",
    "write_without",
]

_OPENERS: dict[str, Callable[[Inventory, str | None, str | None, int], Dataset]] = {
    "webdataset": open_webdataset,
    "folder": open_folder,
    "csv": open_csv,
    "parquet": open_parquet,
    "embeddings": open_embeddings,
}


def open_dataset(
    source: str | Path | Sequence[str | Path],
    *,
    format: str = "auto",
    image_key: str | None = None,
    text_key: str | None = None,
    rows_per_shard: int = 10_000,
) -> Dataset:
    """List a dataset without reading its pictures.

    source: a folder, a file, a brace list (`{00000..00331}.tar`), a `::` list of these, a list of them,
    or an fsspec URL.
    image_key, text_key: for tars and folders the extensions (`jpg;png`, `txt`, `json:prompt`), for
    tables the columns, for embeddings the array names (or the text .npy beside an image .npy).
    rows_per_shard: samples per shard where the layout has none of its own (folder, csv, big parquet).
    Raises DataError when nothing is found (saying what is there), InputError for an unknown format,
    ImportError when a URL needs a driver that is not installed.
    """
    if format != "auto" and format not in _OPENERS:
        raise InputError(f"unknown format {format!r}; one of auto, {', '.join(_OPENERS)}")
    if rows_per_shard < 1:
        raise InputError(f"rows_per_shard must be at least 1, got {rows_per_shard}")
    inventory = take_inventory(source)
    if all(file.size < 0 for file in inventory.files) and inventory.files:
        raise nothing_found(inventory)
    chosen = detect(inventory, image_key) if format == "auto" else format
    dataset = _OPENERS[chosen](inventory, image_key, text_key, rows_per_shard)
    if not dataset.shards:
        raise nothing_found(inventory, chosen)
    dataset.roots = inventory.roots
    dataset.opened = {
        "source": [absolute_place(place) for place in places_of(source)],
        "format": chosen, "image_key": image_key, "text_key": text_key, "rows_per_shard": rows_per_shard,
    }  # fmt: skip
    if inventory.passed_over:
        odd = f"{len(inventory.passed_over):,} linked folders or special files passed over"
        dataset.notes = "; ".join(filter(None, [dataset.notes, odd]))
    return dataset
