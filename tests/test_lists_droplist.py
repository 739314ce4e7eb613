"""DropList: the filter in front of training must drop the right samples or raise; never pass in silence."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipscan.errors import DataError, InputError
from clipscan.report.write_lists import DropList, write_lists

SHARDS = ["a/0.tar", "b/0.tar", "b/1.tar"]
U1, U2 = "0" * 31 + "1", "f" * 32


def listed(*pairs: tuple[str, str], shards: list[str] | None = SHARDS, root: str | None = None) -> DropList:
    return DropList.from_rows(pairs, shards=shards, root=root)


def sample(url: str, key: str = "x") -> dict[str, str]:
    return {"__url__": url, "__key__": key}


def test_a_drop_list_holds_pairs_not_keys() -> None:
    drop = listed(("a/0.tar", "x"), ("b/0.tar", "y"))
    assert ("a/0.tar", "x") in drop
    assert ("b/0.tar", "x") not in drop
    assert len(drop) == 2
    assert list(drop) == [("a/0.tar", "x"), ("b/0.tar", "y")]
    with pytest.raises(InputError, match="pairs"):
        "x" in drop  # noqa: B015


def test_a_key_or_file_name_alone_is_enough_where_no_other_sample_has_it() -> None:
    drop = DropList.from_rows([(".", "00007"), (".", "cat/1")], shards=["."])
    assert "00007" in drop and "00007.png" in drop and "cat/1.JPG" in drop and "00008" not in drop
    assert drop.mask(["00007", "00008", (".", "cat/1"), "00007.txt"]).tolist() == [False, True, False, True]
    assert drop.mask([]).dtype == bool
    with pytest.raises(InputError, match="of one ask: '00007' in keep"):
        drop.mask("00007")
    with pytest.raises(InputError, match="pairs, and takes keys"):
        7 in drop  # noqa: B015


def test_a_run_knows_which_keys_other_samples_have_too(tmp_path: Path) -> None:
    pairs = [("a.tar", "x"), ("b.tar", "x"), ("a.tar", "y"), ("b.tar", "y"), ("b.tar", "z"), ("a.tar", "u"),
             ("b.tar", "v"), ("a.tar", "v.png")]  # fmt: skip
    shards, keys = zip(*pairs, strict=True)
    metadata = tmp_path / "embeddings/metadata"
    metadata.mkdir(parents=True)
    table = pa.table({"shard": shards, "key": keys, "uid": [""] * len(keys)})
    pq.write_table(table, metadata / "metadata_00000.parquet")
    pq.write_table(pa.table({"shard": ["b.tar"], "key": ["u"]}), tmp_path / "bad.parquet")
    wanted = [pairs[i] for i in (0, 2, 3, 4, 5, 6)]
    write_lists(tmp_path, [(*pair, "", "test", 1.0) for pair in wanted])
    drop = DropList.load(tmp_path)
    assert "z" in drop and "z.png" in drop and "y" in drop, "y is dropped wherever it is"
    assert "elsewhere" not in drop
    for key in ("x", "u", "v", "v.png"):  # kept in b.tar; unreadable there; another's file name
        with pytest.raises(InputError, match=r"other samples may have that key: ask by \(shard, key\) pairs"):
            key in drop  # noqa: B015


def test_a_folders_own_shard_is_known_by_its_name() -> None:
    drop = DropList.from_rows([(".", "00007")], shards=["."])
    assert drop(sample(".", "00007")) is False and drop(sample(".", "00008")) is True
    with pytest.raises(DataError, match="none of the shards"):
        drop(sample("./0.tar"))


@pytest.mark.parametrize(
    "url",
    [
        "a/0.tar",
        "/data/set/a/0.tar",
        "file:///data/set/a/0.tar",
        "s3://bucket/set/a/0.tar",
        "https://host/set/a/0.tar?signature=b/0.tar#top",
        "https://host/set%20one/a/0%2Etar",
        "pipe:curl -s 'https://host/set/a/0.tar'",
        "pipe:aws s3 cp s3://bucket/set/a/0.tar -",
    ],
)
def test_a_url_belongs_to_the_shard_that_ends_it(url: str) -> None:
    drop = listed(("a/0.tar", "x"))
    assert drop(sample(url)) is False
    assert drop(sample(url, "other")) is True


def test_part_of_a_folder_name_is_no_match() -> None:
    with pytest.raises(DataError, match=r"'a/0\.tar', 'b/0\.tar'"):
        listed(("a/0.tar", "x"))(sample("/set/ba/0.tar"))


def test_a_moved_shard_is_known_by_its_file_name_if_only_one_has_it() -> None:
    drop = listed(("b/1.tar", "x"))
    assert drop(sample("/scratch/1.tar")) is False
    with pytest.raises(DataError, match=r"could be any of the shards.*root="):
        drop(sample("/scratch/0.tar"))


def test_a_url_of_another_dataset_raises_where_all_shards_are_known() -> None:
    with pytest.raises(DataError, match="none of the shards"):
        listed(("a/0.tar", "x"))(sample("/set/9.tar"))
    assert listed(("a/0.tar", "x"), shards=None)(sample("/set/9.tar")) is True


def test_a_root_settles_what_endings_cannot() -> None:
    nested = ["0.tar", "b/0.tar"]
    with pytest.raises(DataError, match="root="):
        listed(("0.tar", "x"), shards=nested)(sample("/set/b/0.tar"))
    drop = listed(("0.tar", "x"), shards=nested, root="/set/b/")
    assert drop(sample("/set/b/0.tar")) is False
    assert drop(sample("file:///set/b/0.tar".removeprefix("file://"), "y")) is True


def test_a_sample_without_its_url_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="before to_tuple"):
        listed(("a/0.tar", "x"))({"jpg": b"", "txt": ""})


def test_a_key_with_undecodable_bytes_is_dropped_under_its_printable_name() -> None:
    raw = b"caf\xe9".decode("utf-8", "surrogateescape")  # how tarfile, and webdataset, hand it on
    assert listed(("a/0.tar", "caf\\xe9"))(sample("/set/a/0.tar", raw)) is False


def test_a_pickled_list_drops_the_same() -> None:
    drop = pickle.loads(pickle.dumps(listed(("a/0.tar", "x"))))
    assert drop(sample("/set/a/0.tar")) is False


def test_uids_are_kept_but_for_the_dropped() -> None:
    drop = DropList.from_rows([{"shard": "a", "key": "x", "uid": U1}])
    assert drop.uids == {U1}
    assert drop.keep_uids([U2, U1]).tolist() == [(2**64 - 1, 2**64 - 1)]
    assert drop.keep_uids([]).dtype == np.dtype("u8,u8")


def test_a_file_that_is_no_drop_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drop.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        DropList.load(tmp_path / "drop.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        DropList.load(tmp_path / "nowhere.parquet")
    pq.write_table(pa.table({"name": ["x"]}), tmp_path / "drop.parquet")
    with pytest.raises(DataError, match="lacks"):
        DropList.load(tmp_path)


def a_tar(path: Path, keys: list[str]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as tar:
        for key in keys:
            for suffix, data in (("jpg", b"jpeg"), ("txt", key.encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_webdataset_yields_every_sample_but_the_dropped(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="pip install webdataset to test the real pipeline")
    keys = ["p", "q", "r"]
    for shard in SHARDS:
        a_tar(tmp_path / "set" / shard, keys)
    metadata = tmp_path / "run" / "embeddings" / "metadata"
    metadata.mkdir(parents=True)
    rows = [(shard, key, "") for shard in SHARDS for key in keys]
    columns = dict(zip(("shard", "key", "uid"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table(columns), metadata / "metadata_00000.parquet")
    dropped = [("a/0.tar", "q", "", "test", 1.0), ("b/1.tar", "p", "", "test", 0.5)]
    write_lists(tmp_path / "run", dropped)

    keep = DropList.load(tmp_path / "run" / "drop.parquet")
    urls = [str(tmp_path / "set" / shard) for shard in SHARDS]
    data = wds.WebDataset(urls, shardshuffle=False, empty_check=False).select(keep)
    loader = wds.WebLoader(data, num_workers=2, batch_size=None)
    seen = [(found["__url__"].removeprefix(f"{tmp_path}/set/"), found["__key__"]) for found in loader]
    gone = {(shard, key) for shard, key, *_ in dropped}
    expected = {(shard, key) for shard, key, _ in rows} - gone
    assert sorted(seen) == sorted(expected)
