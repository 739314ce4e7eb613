"""Embeddings that somebody computed already: no pictures, only vectors and what is known of each row.

clip-retrieval   img_emb/*_0.npy, text_emb/*_0.npy, metadata/*_0.parquet, matched by the number at the end
DataComp         0001.npz (l14_img, l14_txt, ...) beside 0001.parquet (uid, url, text ...)
loose .npy       one array; text_key="captions.npy" names the text array beside it
parquet          one list column for pictures, one for texts if there is one
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping

import numpy as np

from clipscan.data.arrays import load_column, load_npy, load_npz, vector_columns
from clipscan.data.dataset import Dataset, Record, RowKeys, Shard, Vectors
from clipscan.data.embedding_parts import Part, clip_retrieval, datacomp, is_clip_retrieval, loose
from clipscan.data.files import File, Inventory, describe, extension, is_url
from clipscan.data.parquet import (
    PARQUET_ERRORS,
    choose,
    first_schema,
    known_columns,
    open_parquet_file,
    parquet_shards,
    row_key,
    table_rows,
)
from clipscan.data.sample import Bad, Sample
from clipscan.data.text import CAPTION_FIELDS, Unfit, caption_text, first_field, printable, tag_text, tags
from clipscan.errors import DataError

IMAGE_COLUMNS = ("image_embedding", "image_embeddings", "img_emb", "image_emb", "image_features", "embedding")
TEXT_COLUMNS = (
    "text_embedding",
    "text_embeddings",
    "text_emb",
    "txt_emb",
    "text_features",
    "caption_embedding",
)
METADATA_ROWS = 4096  # rows of text per batch


class Embeddings(Dataset):
    """Precomputed embeddings; `vectors(shard)` gives them, `read` gives what is known of the rows."""

    format = "embeddings"

    def __init__(
        self, source: str, shards: list[Shard], notes: str, parts: dict[str, Part], names: dict[str, str]
    ) -> None:
        super().__init__(source, shards, notes)
        self.parts = parts  # by the shard's name
        self.names = names  # path of a file -> its name in the dataset

    def records(self, shard: Shard, rows: Mapping[int, str] | None = None) -> Iterator[Record]:
        try:
            samples = self._samples(shard)
        except DataError as error:
            yield Record(-1, "", Bad(shard.name, "", printable(str(error))))
            return
        for sample in samples:
            if rows is None or rows.get(sample.at) == sample.key:
                yield Record(sample.at, sample.key, sample)

    def files(self, shard: Shard) -> dict[str, File]:
        """The arrays and the metadata."""
        paths = self.parts[shard.name].files()
        return {self.names.get(path, os.path.basename(path)): describe(path) for path in paths}

    def columns(self, shard: Shard) -> tuple[str, ...]:
        """Names of arrays or columns, as the first file has them."""
        part = self.parts[shard.name]
        return part.image_name, part.text_name

    def vectors(self, shard: Shard) -> Vectors:
        """The arrays and rows of one shard; DataError if they do not fit together."""
        part = self.parts[shard.name]
        image = self._array(shard, part.image, part.image_name)
        text = self._array(shard, part.text, part.text_name) if part.text else None
        samples = self._samples(shard)
        if text is not None and len(text) != len(image):
            raise DataError(f"{part.image} has {len(image):,} rows, {part.text} has {len(text):,}")
        if len(samples) != len(image):
            raise DataError(f"{part.image} has {len(image):,} rows, {part.metadata} has {len(samples):,}")
        return Vectors(image, text, samples)

    def _array(self, shard: Shard, path: str, name: str) -> np.ndarray:
        kind = extension(path)
        if kind == "parquet":
            return load_column(path, name, shard.rows)
        return load_npz(path, name) if kind == "npz" else load_npy(path)

    def _samples(self, shard: Shard) -> list[Sample]:
        part = self.parts[shard.name]
        if part.metadata is None:
            rows = len(self._array(shard, part.image, part.image_name))
            return [Sample(shard.name, f"{row:09d}", None, "", at=row) for row in range(rows)]
        keys = RowKeys()
        span = shard.rows if part.metadata == part.image else None
        try:
            with open_parquet_file(part.metadata) as table:
                columns = known_columns(table.schema_arrow, "image_path", *CAPTION_FIELDS)
                return [
                    Sample(shard.name, keys.name(_key(row), at), None, _caption(row), **tags(row), at=at)
                    for at, row in table_rows(table, columns, span, METADATA_ROWS)
                ]
        except PARQUET_ERRORS as error:
            raise DataError(f"cannot read {part.metadata}: {error}") from error


def _key(row: Mapping[str, object]) -> str:
    return row_key(row) or tag_text(row.get("image_path"))  # clip-retrieval calls its keys so


def _caption(row: Mapping[str, object]) -> str:
    """Captions are only shown here, so one that is missing or spoilt costs nothing but itself."""
    try:
        return caption_text(first_field(row, CAPTION_FIELDS))
    except Unfit:
        return ""


def open_embeddings(
    inventory: Inventory, image_key: str | None, text_key: str | None, rows_per_shard: int
) -> Embeddings:
    """Find the arrays and match them with their metadata. DataError where there are none."""
    if any(is_url(root) for root in inventory.roots):
        raise DataError(f"{inventory.source}: embeddings are memory-mapped; copy them to a local folder")
    kinds = {extension(file.path) for file in inventory.files}
    if is_clip_retrieval(inventory):
        return _assemble(inventory, clip_retrieval(inventory))
    if "npz" in kinds:
        return _assemble(inventory, datacomp(inventory, image_key, text_key))
    if "npy" in kinds:
        return _assemble(inventory, loose(inventory, text_key))
    return _columns(inventory, image_key, text_key, rows_per_shard)


def _assemble(inventory: Inventory, parts: list[Part]) -> Embeddings:
    names = inventory.names()
    about = {file.path: file for file in inventory.files}
    shards = [_shard(printable(names[part.image]), part, about) for part in parts]
    matched = sum(part.text is not None for part in parts)
    notes = f"{matched} of {len(parts)} with text vectors" if parts else ""
    by_name = {shard.name: part for shard, part in zip(shards, parts, strict=True)}
    return Embeddings(inventory.source, shards, notes, by_name, names)


def _shard(name: str, part: Part, about: Mapping[str, File]) -> Shard:
    files = [about.get(path) or File(path, os.path.getsize(path), "") for path in part.files()]
    stamps = "\0".join(f"{file.size} {file.stamp}" for file in files)
    digest = hashlib.sha256(stamps.encode()).hexdigest()[:16]
    return Shard(name, part.image, sum(file.size for file in files), digest)


def _columns(
    inventory: Inventory, image_key: str | None, text_key: str | None, rows_per_shard: int
) -> Embeddings:
    files, names = inventory.of_kind("parquet"), inventory.names()
    schema = first_schema(files)
    vectors = vector_columns(schema)
    likely = [name for name in IMAGE_COLUMNS if name in vectors] or [
        v for v in vectors if v not in TEXT_COLUMNS
    ]
    image = choose(schema, image_key, likely, "picture or embedding", "--image-key")
    text = text_key or next((name for name in TEXT_COLUMNS if name in vectors), "")
    shards = [s for file in files for s in parquet_shards(file, printable(names[file.path]), rows_per_shard)]
    part = {s.name: Part(s.location, s.location if text else None, s.location, image, text) for s in shards}
    return Embeddings(inventory.source, shards, f"column {image!r}", part, names)
