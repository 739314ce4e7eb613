"""Parquet as other people write it: every column reads or is refused in words, and small files stay small."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import JPEG, make_tar, read_all
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.data import Bad, Sample, filter_parquet, open_dataset, parquet_files, write_without
from clipscan.data.parquet_footer import read_chunks
from clipscan.data.parquet_pages import Pages, read_pages
from clipscan.errors import DataError

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


def webdataset_columns(upper: bool = False) -> dict[str, pa.Array]:
    """What `datasets` 5.2 writes from a webdataset of jpg, txt and json members."""
    about = [{"caption": f"json {i}", "url": f"http://x/{i}", "uid": f"u{i}", "n": i} for i in range(2)]
    columns = {
        "jpg": pa.array([{"bytes": image, "path": None} for image in IMAGES],
                        pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "txt": pa.array(TEXTS),
        "json": pa.array(about),
    }  # fmt: skip
    columns = {name.upper() if upper else name: column for name, column in columns.items()}
    return {**columns, "__key__": pa.array(["00000", "00001"]), "__url__": pa.array(["w.tar"] * 2)}


@pytest.mark.parametrize("upper", [False, True])
def test_what_datasets_writes_from_a_webdataset_reads_as_the_tar_did(upper: bool, tmp_path: Path) -> None:
    table = write(tmp_path / "p" / "t.parquet", **webdataset_columns(upper))
    about = [json.dumps(row).encode() for row in webdataset_columns()["json"].to_pylist()]
    names = ("JPG", "TXT", "JSON") if upper else ("jpg", "txt", "json")
    members = [
        (f"{i:05d}.{name}", data)
        for i in range(2)
        for name, data in zip(names, (IMAGES[i], TEXTS[i].encode(), about[i]), strict=True)
    ]
    tar = make_tar(tmp_path / "t.tar", members)
    for options in ({}, {"text_key": "json:caption"}, {"text_key": "json"}, {"text_key": "json:uid;txt"}):
        of_table, of_tar = (read_all(open_dataset(place, **options)) for place in (table, tar))
        assert [type(one) for one in of_tar] == [Sample, Sample]
        for one, other in zip(of_table, of_tar, strict=True):
            same = ("key", "image", "caption", "uid", "url")
            assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]


def test_the_json_of_a_row_may_be_text_and_is_read_where_there_is_no_other_caption(tmp_path: Path) -> None:
    about = ['{"caption": "one", "uid": "a"}', '{"title": "two"}', "{", '{"n": 1}', None, "x" * (2 << 20)]
    table = write(tmp_path / "t.parquet", jpg=[JPEG] * 6, json=about, __key__=list("abcdef"))
    outcomes = read_all(open_dataset(table))
    assert [one.caption for one in outcomes if isinstance(one, Sample)] == TEXTS
    assert outcomes[0].uid == "a"
    wanted = ["is not JSON", "column 'json' has the fields n", "caption is missing", "json has 2,097,152"]
    found = [one.reason for one in outcomes if isinstance(one, Bad)]
    assert all(want in reason for want, reason in zip(wanted, found, strict=True)), found


def test_files_of_one_set_may_name_their_columns_differently(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=IMAGES, caption=TEXTS)
    write(tmp_path / "b.parquet", jpg=IMAGES, text=TEXTS)
    write(tmp_path / "c.parquet", image=IMAGES, label=[1, 2])
    write(tmp_path / "d.parquet", image=IMAGES, txt=TEXTS)
    outcomes = read_all(open_dataset(tmp_path))
    good = [(one.shard, one.caption) for one in outcomes if isinstance(one, Sample)]
    assert good == [(f"{name}.parquet", text) for name in "abd" for text in TEXTS]
    (bad,) = [one for one in outcomes if isinstance(one, Bad)]
    assert bad.shard == "c.parquet" and "no caption column known by name; the table has" in bad.reason
    refused = reasons(tmp_path, text_key="caption")
    assert len(refused) == 3 and all("no column 'caption'; the table has" in reason for reason in refused)
    with pytest.raises(DataError, match="no column 'words'"):
        open_dataset(tmp_path, text_key="words")


def test_the_first_file_may_be_the_one_without_captions(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=IMAGES, label=[1, 2])
    write(tmp_path / "b.parquet", image=IMAGES, text=TEXTS)
    bad, *good = read_all(open_dataset(tmp_path))
    assert isinstance(bad, Bad) and bad.shard == "a.parquet"
    assert [one.caption for one in good if isinstance(one, Sample)] == TEXTS


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


@pytest.mark.parametrize("twice", ["image", "text", "uid"])
def test_two_columns_of_a_name_are_refused_in_words(twice: str, tmp_path: Path) -> None:
    columns = {"image": pa.array(IMAGES), "text": pa.array(TEXTS), "uid": pa.array(TEXTS)}
    names, arrays = [*columns, twice], [*columns.values(), columns[twice]]
    pq.write_table(pa.table(arrays, names), tmp_path / "t.parquet")
    wanted = f"more than one column {twice!r}"
    for options in ({}, {"image_key": "image", "text_key": "text"}):
        try:
            (reason,) = reasons(tmp_path / "t.parquet", **options)
        except DataError as error:
            reason = str(error)
        assert wanted in reason
    pq.write_table(pa.table([*columns.values(), *[pa.array([1, 2])] * 2], [*columns, "n", "n"]),
                   tmp_path / "u.parquet")  # fmt: skip
    assert pairs(tmp_path / "u.parquet") == WANTED


def test_a_date_that_python_lacks_costs_only_a_tag(tmp_path: Path) -> None:
    dates = pa.array([1 << 61, -(1 << 61)], pa.timestamp("us"))
    table = write(tmp_path / "t.parquet", image=IMAGES, text=TEXTS, uid=dates)
    assert pairs(table) == WANTED


def test_a_path_that_is_not_utf8_does_not_cost_the_picture(tmp_path: Path) -> None:
    paths = pa.array([b"caf\xe9", b"x"])
    paths = pa.Array.from_buffers(pa.string(), 2, paths.buffers())
    boxed = pa.StructArray.from_arrays([pa.array(IMAGES), paths], ["bytes", "path"])
    assert pairs(write(tmp_path / "t.parquet", image=boxed, text=TEXTS)) == WANTED


def test_embeddings_columns_that_hold_none_are_refused_in_words(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", embedding=[[1.0], [2.0]], n=[1, 2], words=TEXTS)
    for options in ({"image_key": "n"}, {"text_key": "words"}):
        with pytest.raises(DataError, match="neither pictures nor vectors"):
            open_dataset(table, **options)


SHAPES = {
    "plain": {"use_dictionary": False},
    "dictionary": {"use_dictionary": True},
    "small pages": {"data_page_size": 100, "write_batch_size": 8},
    "version 2": {"data_page_version": "2.0"},
    "zstd": {"compression": "zstd"},
    "checksums": {"write_page_checksum": True},
    "statistics": {"write_page_index": True, "write_statistics": True},
}


def assorted(to: Path, shape: str) -> Path:
    texts = [f"caption {i % 700}" * 3 for i in range(5000)]
    table = pa.table({"text": texts, "list": [[text, None] for text in texts], "n": range(5000)})
    pq.write_table(table, to, row_group_size=2000, **SHAPES[shape])
    return to


@pytest.mark.parametrize("shape", SHAPES)
def test_the_footer_is_read_as_arrow_reads_it(shape: str, tmp_path: Path) -> None:
    about = pq.read_metadata(assorted(tmp_path / "t.parquet", shape))
    with open(tmp_path / "t.parquet", "rb") as stream:
        found = read_chunks(stream)
    for group, chunks in enumerate(found):
        for leaf, chunk in enumerate(chunks):
            arrow = about.row_group(group).column(leaf)
            assert chunk.start == (arrow.dictionary_page_offset or arrow.data_page_offset)
            assert chunk.packed == arrow.total_compressed_size
            assert chunk.unpacked == arrow.total_uncompressed_size
            assert chunk.values == arrow.num_values
            assert chunk.codec == arrow.compression.replace("UNCOMPRESSED", "NONE")
    assert [len(chunks) for chunks in found] == [about.num_columns] * about.num_row_groups


@given(
    flips=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=5)
)
@settings(max_examples=200, deadline=None)
def test_no_footer_raises_anything_but_value_errors(flips: list[tuple[int, bytes]]) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS, "list": [TEXTS, None]}), out)
    data = bytearray(out.getvalue())
    for back, new in flips:
        at = max(len(data) - 1 - back, 0)
        data[at : at + len(new)] = new
    with contextlib.suppress(ValueError, RecursionError):
        assert all(chunk.start >= 0 for chunks in read_chunks(io.BytesIO(data)) for chunk in chunks)


def test_an_index_beyond_its_dictionary_is_refused_before_arrow_follows_it(tmp_path: Path) -> None:
    columns = {"image": IMAGES * 8, "text": pa.array(TEXTS * 8).dictionary_encode()}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", compression="none")
    data = (tmp_path / "t.parquet").read_bytes()
    head, indices, tail = data.rpartition(bytes([1, 5, 0b10101010, 0b10101010]))  # 16 of one bit: 0 1 0 1 ...
    assert indices
    (tmp_path / "t.parquet").write_bytes(head + bytes([2, 16 << 1, 3, 0]) + tail)  # of two bits: 16 times 3
    (bad,) = read_all(open_dataset(tmp_path / "t.parquet"))
    assert isinstance(bad, Bad) and "beyond the end of its dictionary" in bad.reason


@pytest.mark.parametrize("shape", SHAPES)
def test_the_pages_hold_what_the_footer_says(shape: str, tmp_path: Path) -> None:
    about = pq.read_metadata(assorted(tmp_path / "t.parquet", shape))
    with open(tmp_path / "t.parquet", "rb") as stream:
        for group in range(about.num_row_groups):
            for leaf in range(about.num_columns):
                chunk = about.row_group(group).column(leaf)
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                pages = read_pages(stream, start, chunk.total_compressed_size, chunk.num_values)
                assert pages.values == chunk.num_values
                assert 0 < pages.largest <= pages.unpacked < chunk.total_uncompressed_size
                assert (pages.dictionary > 0) == chunk.has_dictionary_page
                with pytest.raises(ValueError, match="header|number"):
                    read_pages(stream, start + 1, chunk.total_compressed_size, chunk.num_values)


def test_a_page_that_hides_in_the_footer_is_counted_by_its_header(tmp_path: Path) -> None:
    stream = open(write(tmp_path / "t.parquet", text=["x" * 1000] * 3000), "rb")  # noqa: SIM115
    with stream:
        pages = read_pages(stream, 4, 1 << 20, 3000)
    assert pages == Pages(1004, 1004, pages.unpacked, 3000, 3000)


BOMBS = {
    "captions": """
        pq.write_table(pa.table({"caption": texts(10 << 20, 4096), "key": keys(4096)}), "a.parquet")
        np.save("a.npy", np.ones((4096, 2), np.float32))
        source, wanted = ".", "unpacks from"
    """,
    "plain captions": """
        plain = pa.array(["x" * (10 << 20)] * 30)
        pq.write_table(pa.table({"caption": plain, "key": keys(30)}), "a.parquet", use_dictionary=False,
                       compression="zstd")
        np.save("a.npy", np.ones((30, 2), np.float32))
        source, wanted = ".", "unpacks from"
    """,
    "pictures": """
        one = texts(16 << 20, 100_000).cast(pa.dictionary(pa.int32(), pa.binary()))
        pq.write_table(pa.table({"image": one, "text": keys(100_000)}), "a.parquet", compression="zstd")
        source, wanted = "a.parquet", "unpacks from"
    """,
    "lists of captions": """
        lists = pa.ListArray.from_arrays([0, 1 << 20], texts(10 << 20, 1 << 20))
        pq.write_table(pa.table({"caption": lists, "image": [b"1"]}), "a.parquet")
        source, wanted = "a.parquet", "10,485,760 characters"
    """,
    "rows": """
        nothing = pa.nulls(3 << 20, pa.binary())
        pq.write_table(pa.table({"image": nothing, "text": texts(1, 3 << 20)}), "a.parquet")
        source, wanted = "a.parquet", "3,145,728 rows"
    """,
    "one endless vector": """
        numbers = pa.nulls(40 << 20, pa.float32())
        lists = pa.ListArray.from_arrays([0, 40 << 20], numbers)
        pq.write_table(pa.table({"embedding": lists}), "a.parquet")
        source, wanted = "a.parquet", "unpacks from"
    """,
    "vectors": """
        lists = pa.FixedSizeListArray.from_arrays(pa.nulls(40 << 20, pa.float32()), 40)
        pq.write_table(pa.table({"embedding": lists}), "a.parquet", row_group_size=1 << 20)
        source, wanted = "a.parquet", "unpacks from"
    """,
}

SETTING = """
import resource, sys
import clipscan, numpy as np, pyarrow as pa, pyarrow.parquet as pq
from clipscan.data import filter_parquet, parquet_files
from clipscan.data import Bad, open_dataset

def keys(n):
    return [f"{i:09d}" for i in range(n)]

def texts(chars, n):  # one text in n rows
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["x" * chars])
"""

READ = """
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 30), resource.RLIM_INFINITY))
try:
    dataset = open_dataset(source)
    reasons = {one.reason for shard in dataset.shards for one in dataset.read(shard) if isinstance(one, Bad)}
except clipscan.DataError as error:
    reasons = {str(error)}
assert any(wanted in reason for reason in reasons), reasons
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_does_not_unpack_to_more_than_memory(bomb: str, tmp_path: Path) -> None:
    *make, names = textwrap.dedent(BOMBS[bomb]).strip().splitlines()
    for script in ("\n".join(make), f"{names}\n{READ}"):  # made without the limit, by another process
        command = [sys.executable, "-c", f"{SETTING}\n{script}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr


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


def test_a_row_group_that_is_large_unpacked_is_written_as_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "BATCH_BYTES", 1 << 20)
    monkeypatch.setattr(filter_parquet, "GROUP_BYTES", 16 << 20)
    keys = [f"{row:04d}" for row in range(400)]
    notes = ["x" * (256 << 10)] * 400  # 100 MiB of one text
    table = write(tmp_path / "t.parquet", image=[JPEG] * 400, text=keys, key=keys, note=notes)
    write_without(open_dataset(table), {("t.parquet", "0007")}, tmp_path / "clean")
    after = pq.ParquetFile(tmp_path / "clean" / "t.parquet")
    assert after.metadata.num_rows == 399 and after.num_row_groups == 7
    assert after.read(["key"])["key"].to_pylist() == keys[:7] + keys[8:]
