"""Parquet as other people write it: which columns are the pair, and what of a row is only a tag."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import JPEG, make_tar, read_all
from parquet_helpers import IMAGES, TEXTS, WANTED, pairs, reasons, write

from clipscan.data import Bad, Sample, open_dataset
from clipscan.errors import DataError


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
