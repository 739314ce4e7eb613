"""Embeddings that somebody computed already: no pictures, only vectors and what is known of each row.

clip-retrieval   img_emb/*_0.npy, text_emb/*_0.npy, metadata/*_0.parquet, matched by the number at the end
DataComp         0001.npz (l14_img, l14_txt, ...) beside 0001.parquet (uid, url, text ...)
safetensors      x.safetensors (image, text, or named as above) beside x.parquet, where there is one
loose .npy       one array; text_key="captions.npy" names the text array beside it
parquet          one list column for pictures, one for texts if there is one
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from clipscan.data.array_files import load_array
from clipscan.data.arrow_types import is_vector
from clipscan.data.dataset import Dataset, Record, RowKeys, Shard, Vectors, broken_shard
from clipscan.data.embedding_parts import (
    Part,
    clip_retrieval,
    has_safetensors,
    is_clip_retrieval,
    loose,
    named_arrays,
)
from clipscan.data.inventory import File, Inventory, describe, extension, is_url
from clipscan.data.parquet import row_key
from clipscan.data.parquet_columns import choose, column_type, known_columns
from clipscan.data.parquet_files import (
    first_schema,
    group_starts,
    open_parquet_file,
    parquet_shards,
    table_rows,
)
from clipscan.data.sample import Bad, Sample
from clipscan.data.text import CAPTION_FIELDS, Unfit, caption_text, first_field, printable, tag_text, tags
from clipscan.data.vector_column import load_column, vector_columns
from clipscan.data.widths import Widths, check_width
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
        self._widths = Widths(parts[shard.name] for shard in shards)
        self._with_text = sum(part.text is not None for part in parts.values())

    def holds(self) -> set[str]:
        """Arrays and their metadata."""
        return {path for part in self.parts.values() for path in part.files()}

    def records(self, shard: Shard, only: Mapping[int, str] | None = None) -> Iterator[Record]:
        try:
            if only is None:
                _, _, samples, bad = self.vectors(shard)
            else:
                samples, bad = self._samples(shard), {}
        except DataError as error:
            yield broken_shard(shard, error)
            return
        for row, sample in enumerate(samples):
            if only is None or only.get(sample.at) == sample.key:
                outcome = Bad(shard.name, sample.key, bad[row]) if row in bad else sample
                yield Record(sample.at, sample.key, outcome)

    def files(self, shard: Shard) -> dict[str, File]:
        """The arrays and the metadata."""
        paths = self.parts[shard.name].files()
        return {self.names.get(path, os.path.basename(path)): describe(path) for path in paths}

    def columns(self, shard: Shard) -> tuple[str, ...]:
        """Names of arrays or columns, as the first file has them, and widths as most files have them."""
        part = self.parts[shard.name]
        return part.image_name, part.text_name, str(self._widths.image), str(self._widths.text)

    def vectors(self, shard: Shard) -> Vectors:
        """The arrays and rows of one shard, a row without a vector (null, or of another length) told as bad.

        DataError where the files of the shard cannot be read or paired, or are not as wide as most.
        """
        part = self.parts[shard.name]
        image, bad = _array(shard, part.image, part.image_name, self._widths.image)
        check_width(part.image, image, self._widths.image)
        text = None
        if part.text:
            text, also_bad = _array(shard, part.text, part.text_name, self._widths.text)
            check_width(part.text, text, self._widths.text)
            bad = {row: f"of its caption, {why}" for row, why in also_bad.items()} | dict(bad)
            if len(text) != len(image):
                raise DataError(f"{part.image} has {len(image):,} rows, {part.text} has {len(text):,}")
        elif 2 * self._with_text >= len(self.parts):  # without it no pair of the dataset could be compared
            raise DataError(
                f"{part.image} has no vectors of its captions, as {self._with_text:,} of the "
                f"{len(self.parts):,} shards have; add them, or move it away"
            )
        return Vectors(image, text, self._samples(shard, len(image)), bad)

    def _samples(self, shard: Shard, rows: int | None = None) -> list[Sample]:
        """What is known of each row; DataError where there are not `rows` of them, the arrays' number."""
        part = self.parts[shard.name]
        if part.metadata is None:
            held = len(_array(shard, part.image, part.image_name)[0]) if rows is None else rows
            return [Sample(shard.name, f"{row:09d}", None, "", at=row) for row in range(held)]
        keys = RowKeys()
        span = shard.rows if part.metadata == part.image else None
        with open_parquet_file(part.metadata) as table:
            held = group_starts(table)[-1] if span is None else span[1] - span[0]
            if rows is not None and held != rows:
                raise DataError(f"{part.image} has {rows:,} rows, {part.metadata} has {held:,}")
            columns = known_columns(table.schema_arrow, "image_path", *CAPTION_FIELDS)
            samples = [
                Sample(shard.name, keys.name(_key(row), at), None, _caption(row), **tags(row), at=at)
                for at, row in table_rows(table, columns, span, METADATA_ROWS)
            ]
        if len(samples) != held:
            raise DataError(f"{part.metadata} has {len(samples):,} of the {held:,} rows that it declares")
        return samples


def _array(
    shard: Shard, path: str, name: str, width: int | None = None
) -> tuple[np.ndarray, Mapping[int, str]]:
    """[n, d], and row -> why it is NaN; d is `width` where the rows themselves leave a choice."""
    if extension(path) == "parquet":
        return load_column(path, name, shard.rows, width)
    return load_array(path, name), {}


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
    if "npz" in kinds or has_safetensors(inventory):
        return _assemble(inventory, named_arrays(inventory, image_key, text_key))
    if "npy" in kinds:
        return _assemble(inventory, loose(inventory, text_key))
    return _columns(inventory, image_key, text_key, rows_per_shard)


def _assemble(inventory: Inventory, parts: list[Part]) -> Embeddings:
    names = inventory.names()
    about = {file.path: file for file in inventory.files}
    shards = [_shard(printable(names[part.image]), part, about) for part in parts]
    matched = sum(part.text is not None for part in parts)
    described = sum(part.metadata is not None for part in parts)
    notes = f"{matched} of {len(parts)} with text vectors, {described} with metadata" if parts else ""
    notes += _unmatched(matched, len(parts))
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
    image = _vectors_of(schema, choose(schema, image_key, likely, "picture or embedding", "--image-key"))
    held = {file.path: _vector_columns(file) for file in files}
    counts = Counter(name for vectors in held.values() for name in vectors)
    text = max(TEXT_COLUMNS, key=lambda name: counts[name])  # of equally common ones the first
    if text_key:
        text = _vectors_of(schema, choose(schema, text_key, [], "text embedding", "--text-key"))
    shards = [s for file in files for s in parquet_shards(file, printable(names[file.path]), rows_per_shard)]
    part = {
        s.name: Part(s.location, s.location if text in held[s.location] else None, s.location, image, text)
        for s in shards
    }
    notes = f"column {image!r}" + _unmatched(counts[text], len(files))
    return Embeddings(inventory.source, shards, notes, part, names)


def _vector_columns(file: File) -> list[str]:
    """Those of a file; none of one that cannot be read, which is bad when it is read."""
    try:
        return vector_columns(first_schema([file]))
    except DataError:
        return []


def _unmatched(matched: int, files: int) -> str:
    """A remark where some files, but not most, have text vectors."""
    rare = 0 < 2 * matched < files
    return "; pictures and captions are not compared, most files have no text vectors" if rare else ""


def _vectors_of(schema: pa.Schema, column: str) -> str:
    """The column, if it holds vectors; it is refused here where somebody named it."""
    if not is_vector(kind := column_type(schema, column)):
        raise DataError(f"column {column!r} holds {kind}: neither pictures nor vectors (lists of floats)")
    return column
