"""Every type of a parquet column reads, or is refused in words, and is written again as it was."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import JPEG
from parquet_helpers import IMAGES, TEXTS, WANTED, pairs, reasons, write

from clipscan.data import open_dataset, write_without
from clipscan.errors import DataError


def encoded(kind: pa.DataType, values: list[Any]) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode()
    return pa.array(values, kind)


BINARY = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]
STRING = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view]


@pytest.mark.parametrize("kind", BINARY, ids=str)
@pytest.mark.parametrize("forced", [{}, {"image_key": "image"}], ids=["by name", "by --image-key"])
def test_every_binary_column_reads(kind: pa.DataType, forced: dict[str, str], tmp_path: Path) -> None:
    column = encoded(kind, IMAGES)
    plain = write(tmp_path / "a.parquet", image=column, text=TEXTS)
    struct = pa.StructArray.from_arrays([column, pa.array(["p", "q"])], ["bytes", "path"])
    boxed = write(tmp_path / "b.parquet", image=struct, text=TEXTS)
    assert pairs(plain, **forced) == pairs(boxed, **forced) == WANTED


@pytest.mark.parametrize("kind", STRING, ids=str)
def test_every_text_column_reads_as_captions_and_as_base64(kind: pa.DataType, tmp_path: Path) -> None:
    plain = write(tmp_path / "a.parquet", image=IMAGES, text=encoded(kind, TEXTS))
    assert pairs(plain) == WANTED
    letters = [base64.b64encode(image).decode() for image in IMAGES]
    letters[1] = f"data:image/jpeg;base64,{letters[1]}"
    packed = write(tmp_path / "b.parquet", image=encoded(kind, letters), text=TEXTS)
    assert pairs(packed, image_key="image") == WANTED
    paths = write(tmp_path / "c.parquet", image=encoded(kind, ["a.jpg", "/etc/passwd"]), text=TEXTS)
    assert all("not base64" in reason for reason in reasons(paths, image_key="image"))


@pytest.mark.parametrize("kind", LISTS, ids=lambda kind: kind.__name__)
def test_every_list_reads_as_captions_pictures_and_vectors(
    kind: Callable[[pa.DataType], pa.DataType], tmp_path: Path
) -> None:
    texts = pa.array([[text, "another"] for text in TEXTS], kind(pa.string()))
    assert pairs(write(tmp_path / "a.parquet", image=IMAGES, text=texts)) == WANTED
    boxes = [[{"bytes": image, "path": "p"}] for image in IMAGES]
    boxed = pa.array(boxes, kind(pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    assert pairs(write(tmp_path / "b.parquet", image=boxed, text=TEXTS)) == WANTED
    many = pa.array([IMAGES, []], kind(pa.binary()))
    more, none = reasons(write(tmp_path / "c.parquet", image=many, text=TEXTS))
    assert "more than one picture" in more and "missing" in none
    for number in (pa.float16(), pa.float32(), pa.float64()):
        lists = pa.array([[1, 2], None, [3, 4], [None, 5]], kind(number))
        dataset = open_dataset(write(tmp_path / f"{number}.parquet", embedding=lists))
        image, _, _, bad = dataset.vectors(dataset.shards[0])
        assert image.dtype == number.to_pandas_dtype() and list(bad) == [1]
        assert np.array_equal(image, [[1, 2], [np.nan] * 2, [3, 4], [np.nan, 5]], equal_nan=True)


def tensors(shape: list[int]) -> pa.Array:
    size = int(np.prod(shape))
    storage = pa.array([[1.0] * size, [2.0] * size], pa.list_(pa.float32(), size))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), shape), storage)


REFUSED = {
    "tensor": tensors([2, 2]),
    "integers": pa.array([1, 2]),
    "dates": pa.array([1, 2], pa.timestamp("us")),
    "struct without bytes": pa.array([{"path": "a"}, {"path": "b"}]),
    "list of integers": pa.array([[1], [2]]),
    "fixed binary": pa.array([b"ab", b"cd"], pa.binary(2)),
    "map": pa.array([[("a", b"1")], []], pa.map_(pa.string(), pa.binary())),
    "struct with two of a name": pa.StructArray.from_arrays([pa.array(IMAGES)] * 2, ["bytes", "bytes"]),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("beside", [False, True])
def test_a_column_that_holds_no_pictures_is_refused_in_words(kind: str, beside: bool, tmp_path: Path) -> None:
    others = {"jpg": IMAGES} if beside else {}
    table = write(tmp_path / "t.parquet", image=REFUSED[kind], text=TEXTS, **others)
    if kind == "tensor":  # lists of floats are embeddings
        assert open_dataset(table, image_key="image").format == "embeddings"
        table_format = {"format": "parquet"}
    else:
        table_format = {}
    with pytest.raises(DataError, match="column 'image' holds"):
        open_dataset(table, image_key="image", **table_format)


def test_tensors_of_one_dimension_are_vectors(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "t.parquet", embedding=tensors([3])))
    assert dataset.vectors(dataset.shards[0]).image.tolist() == [[1.0] * 3, [2.0] * 3]


def test_a_column_that_is_no_caption_is_refused_in_words(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", image=IMAGES, text=[1, 2], words=TEXTS)
    with pytest.raises(DataError, match=r"no caption column known by name.*words \(string\)"):
        open_dataset(table)
    with pytest.raises(DataError, match="column 'text' holds int64, not text"):
        open_dataset(table, text_key="text")
    assert pairs(table, text_key="words") == WANTED


def test_embeddings_columns_that_hold_none_are_refused_in_words(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", embedding=[[1.0], [2.0]], n=[1, 2], words=TEXTS)
    for options in ({"image_key": "n"}, {"text_key": "words"}):
        with pytest.raises(DataError, match="neither pictures nor vectors"):
            open_dataset(table, **options)


KEPT: dict[str, pa.Array] = {
    **{str(kind): encoded(kind, [b"1", None, b"3"]) for kind in BINARY},
    **{str(kind): encoded(kind, ["1", None, "3"]) for kind in STRING},
    **{f"{kind.__name__} of text": pa.array([["1", "2"], None, []], kind(pa.string())) for kind in LISTS},
    "lists of lists": pa.array([[["1"], []], [], None]),
    "list of structs": pa.array([[{"bytes": b"1", "path": "2"}], [], None]),
    "struct of lists": pa.array([{"a": ["1", "2"], "b": 1}, None, {"a": None, "b": 2}]),
    "map": pa.array([[("1", b"2")], [], None], pa.map_(pa.string(), pa.binary())),
    "tensors": pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), [2]),
        pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
    ),
}


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_kept_has_the_same_types_and_values(kind: str, tmp_path: Path) -> None:
    columns = {"image": [JPEG] * 3, "text": ["a", "b", "c"], "key": ["0", "1", "2"], "more": KEPT[kind]}
    table = write(tmp_path / "t.parquet", **columns)
    write_without(open_dataset(table), {("t.parquet", "1")}, tmp_path / "clean")
    before, after = pq.read_table(table), pq.read_table(tmp_path / "clean" / "t.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.to_pylist() == [row for row in before.to_pylist() if row["key"] != "1"]
