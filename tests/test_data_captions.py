"""Which members, columns and fields are caption and picture, and what of several captions is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_helpers import make_tar, put, read_all

from clipscan.data import Bad, open_dataset
from clipscan.errors import DataError


def test_keys_choose_members_columns_and_fields(tmp_path: Path) -> None:
    tar = make_tar(
        tmp_path / "t.tar",
        [("a.jpg", b"J"), ("a.png", b"P"), ("a.txt", b"short"), ("a.json", b'{"prompt": "long"}')],
    )
    chosen = read_all(open_dataset(tar, image_key="png;jpg", text_key="json:prompt"))[0]
    usual = read_all(open_dataset(tar))[0]
    assert (chosen.image, chosen.caption) == (b"P", "long")
    assert (usual.image, usual.caption) == (b"J", "short")
    put(tmp_path / "c" / "t.csv", b"pic,words,title\nx.jpg,hello,no\n")
    put(tmp_path / "c" / "x.jpg", b"1")
    sample = read_all(open_dataset(tmp_path / "c" / "t.csv", image_key="pic", text_key="words"))[0]
    assert (sample.key, sample.caption) == ("x", "hello")
    with pytest.raises(DataError, match="--image-key"):
        open_dataset(tmp_path / "c" / "t.csv")


def test_five_captions_of_one_picture_are_five_samples(tmp_path: Path) -> None:
    put(tmp_path / "coco.csv", b"filepath,title\n" + b"".join(b"x.jpg,caption %d\n" % i for i in range(5)))
    put(tmp_path / "x.jpg", b"1")
    dataset = open_dataset(tmp_path / "coco.csv")
    samples = read_all(dataset)
    assert [s.key for s in samples] == ["x", "x#1", "x#2", "x#3", "x#4"]
    assert list(dataset.fetch(dataset.shards[0], {"x#3": 3})) == [samples[3]]


def test_of_a_list_of_captions_the_first_is_taken(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"1", b"2"], "caption": [["one", "two"], []]}), tmp_path / "t.parquet")
    sample, bad = read_all(open_dataset(tmp_path / "t.parquet"))
    assert sample.caption == "one"
    assert bad.reason == "caption is missing"


@pytest.mark.parametrize(
    "about",
    [
        {"texts": [["alt", "a cat"], ["title", "b"]]},  # MetaCLIP
        {"captions": ["a cat", "b"]},
        {"caption": ["a cat"]},
        {"caption": None, "texts": [["alt", "a cat"]]},
    ],
)
def test_lists_of_captions_are_read_from_json(about: dict, tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", [("a.jpg", b"1"), ("a.json", json.dumps(about).encode())])
    put(tmp_path / "f" / "a.jpg", b"1")
    put(tmp_path / "f" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", **about}).encode())
    for source in (tar, tmp_path / "f"):
        (sample,) = read_all(open_dataset(source))
        assert sample.caption == "a cat"


def test_a_row_without_caption_says_which_fields_it_has(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", b"1")
    put(tmp_path / "metadata.jsonl", b'{"file_name": "a.jpg", "words": "x"}')
    put(tmp_path / "b" / "b.jpg", b"1")
    put(tmp_path / "b" / "b.json", b'{"words": "x"}')
    reasons = [o.reason for o in read_all(open_dataset(tmp_path)) if isinstance(o, Bad)]
    assert "metadata.jsonl, row 0 has the fields file_name, words; --text-key" in reasons[0]
    assert "its .json has the fields words; --text-key" in reasons[1]
    assert [o.caption for o in read_all(open_dataset(tmp_path, text_key="words"))[:1]] == ["x"]
