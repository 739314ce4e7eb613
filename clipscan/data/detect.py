"""Which layout is this? Decided from the names of files and columns; told to the user, can be forced."""

from __future__ import annotations

from clipscan.data import embedding_parts, parquet
from clipscan.data.array_files import ARRAYS
from clipscan.data.dataset import stem
from clipscan.data.folder_metadata import METADATA
from clipscan.data.inventory import Inventory, extension
from clipscan.data.pictures import IMAGE_EXTENSIONS, UNREAD_EXTENSIONS
from clipscan.data.webdataset import TAR_EXTENSIONS
from clipscan.errors import DataError

TABLES = ("csv", "tsv")


def detect(inventory: Inventory, image_key: str | None = None) -> str:
    """The format's name; DataError with what was found where nothing fits.

    First match: tars, clip-retrieval or DataComp arrays, pictures (a folder, or the tables that list
    them where they have no captions beside them), parquet (pictures or embeddings, by its columns),
    csv, loose arrays, pictures that no decoder here reads.
    """
    kinds = {extension(file.path) for file in inventory.files}
    if kinds & set(TAR_EXTENSIONS):
        return "webdataset"
    if embedding_parts.looks_like(inventory):
        return "embeddings"
    tables = [file.path for file in inventory.files if extension(file.path) in TABLES]
    if kinds & set(IMAGE_EXTENSIONS):
        described = any(file.path.rsplit("/", 1)[-1] in METADATA for file in inventory.files)
        return "csv" if tables and not described and not _captions_beside(inventory) else "folder"
    if "parquet" in kinds:
        return "parquet" if parquet.has_pictures(inventory, image_key) else "embeddings"
    if tables:
        return "csv"
    if kinds & set(ARRAYS):
        return "embeddings"
    if kinds & set(UNREAD_EXTENSIONS):
        return "folder"
    raise nothing_found(inventory)


def _captions_beside(inventory: Inventory) -> bool:
    """Has any picture a .txt or .json of its name?"""
    kinds = [(stem(file.path), extension(file.path)) for file in inventory.files]
    captions = {name for name, kind in kinds if kind in ("txt", "json")}
    return any(kind in IMAGE_EXTENSIONS and name in captions for name, kind in kinds)


def nothing_found(inventory: Inventory, format: str = "") -> DataError:
    """The error of a source without a single shard: what was looked for, what lies there, what to do."""
    missing = [file.path for file in inventory.files if file.size < 0]
    if missing and len(missing) == len(inventory.files):
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        return DataError(f"no such file or folder: {missing[0]}{more}; check the path or the brace range")
    wanted = f"no {format} dataset" if format else "no dataset"
    remedy = "use --format auto, or point at the right folder" if format else "--format forces one"
    return DataError(
        f"{wanted} found in {inventory.source}: it holds {inventory.counts()}. clipscan reads "
        "webdataset tars, folders of pictures with .txt captions or a metadata.csv/.jsonl, csv/tsv, parquet "
        f"and embeddings (.npy, .npz, .safetensors); {remedy}"
    )
