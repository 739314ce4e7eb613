"""The footer of a parquet file is read before Arrow reads the file: small files stay small."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import JPEG, read_all
from hypothesis import given, settings
from hypothesis import strategies as st
from parquet_helpers import IMAGES, TEXTS, write

from clipscan.data import Bad, filter_parquet, open_dataset, parquet_files, write_without
from clipscan.data.parquet_footer import read_chunks
from clipscan.data.parquet_pages import Pages, read_pages

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
