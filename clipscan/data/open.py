"""One door to every layout of an image-text dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clipscan.data.csv_rows import QUOTING
from clipscan.data.csv_table import open_csv
from clipscan.data.dataset import Dataset
from clipscan.data.detect import detect, nothing_found
from clipscan.data.embeddings import open_embeddings
from clipscan.data.folder import open_folder
from clipscan.data.inventory import absolute_place, extension, places_of, take_inventory
from clipscan.data.parquet import open_parquet
from clipscan.data.sample import shown_kinds, tally
from clipscan.data.webdataset import open_webdataset
from clipscan.errors import InputError

_OPENERS: dict[str, Callable[..., Dataset]] = {
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
    roots: Sequence[str | Path] = (),
    quoting: str = QUOTING[0],
) -> Dataset:
    """List a dataset without reading its pictures.

    source: a folder, a file, a brace list (`{00000..00331}.tar`), a `::` list of these, a list of them,
    or an fsspec URL.
    image_key, text_key: for tars and folders the extensions (`jpg;png`, `txt`, `json:prompt`), for
    tables the columns, for embeddings the array names (or the text .npy beside an image .npy).
    rows_per_shard: samples per shard where the layout has none of its own (folder, csv, big parquet).
    roots: further folders that the pictures of a folder or a csv may lie in, which else are read from the
    dataset's own folder only. quoting: of a csv, "csv" (quotes may hold separators and line ends) or "none".
    Raises DataError when nothing is found (saying what is there), InputError for an unknown format or
    option, ImportError when a URL needs a driver that is not installed.
    """
    if format != "auto" and format not in _OPENERS:
        raise InputError(f"unknown format {format!r}; one of auto, {', '.join(_OPENERS)}")
    if rows_per_shard < 1:
        raise InputError(f"rows_per_shard must be at least 1, got {rows_per_shard}")
    if quoting not in QUOTING:
        raise InputError(f"unknown quoting {quoting!r}; one of {', '.join(QUOTING)}")
    further = _folders(roots)
    inventory = take_inventory(source, further)
    if all(file.size < 0 for file in inventory.files) and inventory.files:
        raise nothing_found(inventory)
    chosen = detect(inventory, image_key) if format == "auto" else format
    how: dict[str, Any] = {"roots": further, "quoting": quoting} if chosen in ("folder", "csv") else {}
    if not how and (further or quoting != QUOTING[0]):
        raise InputError(
            f"roots and quoting say how folders and csv tables are read; {inventory.source} is {chosen}"
        )
    dataset = _OPENERS[chosen](inventory, image_key, text_key, rows_per_shard, **how)
    if not dataset.shards:
        raise nothing_found(inventory, chosen)
    dataset.roots = inventory.roots
    dataset.opened = {
        "source": [absolute_place(place) for place in places_of(source)],
        "format": chosen, "image_key": image_key, "text_key": text_key, "rows_per_shard": rows_per_shard,
        "roots": list(further), "quoting": quoting,
    }  # fmt: skip
    held = dataset.holds()
    tally(dataset.beside, (extension(file.path) for file in inventory.files if file.path not in held))
    dataset.notes = "; ".join(
        filter(None, [dataset.notes, *_left_alone(dataset, len(inventory.passed_over))])
    )
    return dataset


def _folders(roots: Sequence[str | Path]) -> tuple[str, ...]:
    """Absolute paths of folders that are there; InputError for others."""
    folders = [os.path.abspath(os.path.expanduser(root)) for root in roots]
    for folder in folders:
        if not os.path.isdir(folder):
            raise InputError(
                f"the root {folder} is not a folder; name one that holds pictures of the dataset"
            )
    return tuple(folders)


def _left_alone(dataset: Dataset, odd: int) -> list[str]:
    """What lies there and is not read, for describe()."""
    notes = []
    if files := dataset.beside.total():
        notes.append(f"passed over, and not copied by apply: {files:,} files ({shown_kinds(dataset.beside)})")
    if odd:
        notes.append(
            f"{odd:,} linked folders or special files passed over; --root DIR follows links into DIR"
        )
    return notes
