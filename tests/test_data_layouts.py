"""Every layout gives the same ten samples, and gives them again."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_helpers import (
    PICTURES,
    VECTORS,
    good,
    image_vectors,
    make_tar,
    put,
    read_all,
    ten_samples,
    text_vectors,
    write_tar,
    write_vector_parquet,
)

from clipscan.data import Bad, Sample, open_dataset, write_without
from clipscan.errors import DataError, InputError

ALL = PICTURES | VECTORS


@pytest.mark.parametrize("layout", ALL)
@pytest.mark.parametrize("rows_per_shard", [10_000, 3])
def test_every_layout_gives_the_same_ten_samples(layout: str, rows_per_shard: int, tmp_path: Path) -> None:
    write, format = ALL[layout]
    dataset = open_dataset(write(ten_samples(), tmp_path / "set"), rows_per_shard=rows_per_shard)
    expected = [replace(s, image=None) for s in ten_samples()] if layout in VECTORS else ten_samples()
    assert dataset.format == format
    assert good(dataset) == expected


@pytest.mark.parametrize("layout", ALL)
@pytest.mark.parametrize("rows_per_shard", [10_000, 3])
def test_a_sample_can_be_fetched_again_from_its_place(
    layout: str, rows_per_shard: int, tmp_path: Path
) -> None:
    dataset = open_dataset(ALL[layout][0](ten_samples(), tmp_path / "set"), rows_per_shard=rows_per_shard)
    dataset = pickle.loads(pickle.dumps(dataset))  # as a worker process gets it
    for shard in dataset.shards:
        samples = [outcome for outcome in dataset.read(shard) if isinstance(outcome, Sample)]
        wanted = samples[::-2]
        fetched = list(dataset.fetch(shard, {s.key: s.at for s in wanted}))
        assert sorted(fetched, key=lambda s: s.key) == sorted(wanted, key=lambda s: s.key)


@pytest.mark.parametrize("layout", ALL)
def test_identity_is_unique_and_listing_deterministic(layout: str, tmp_path: Path) -> None:
    source = ALL[layout][0](ten_samples(), tmp_path / "set")
    first, second = (open_dataset(source, rows_per_shard=3) for _ in range(2))
    assert first.shards == second.shards
    assert all(shard.size > 0 and shard.stamp for shard in first.shards)
    identities = [(outcome.shard, outcome.key) for outcome in read_all(first)]
    assert len(set(identities)) == 10


@pytest.mark.parametrize("layout", VECTORS)
def test_vectors_belong_to_their_samples(layout: str, tmp_path: Path) -> None:
    dataset = open_dataset(VECTORS[layout][0](ten_samples(), tmp_path / "set"), rows_per_shard=4)
    parts = [dataset.vectors(shard) for shard in dataset.shards]
    assert np.array_equal(
        np.concatenate([p.image for p in parts]).astype("f4"), by_dtype(image_vectors, parts)
    )
    assert np.array_equal(np.concatenate([p.text for p in parts]).astype("f4"), by_dtype(text_vectors, parts))
    captions = [sample.caption for part in parts for sample in part.samples]
    assert captions == [sample.caption for sample in ten_samples()]


def by_dtype(vectors, parts) -> np.ndarray:
    return vectors(str(parts[0].image.dtype)).astype("f4")


def test_one_npy_is_a_dataset_and_stays_on_the_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image_vectors())
    np.save(tmp_path / "b.npy", text_vectors())
    dataset = open_dataset(tmp_path / "a.npy", text_key="b.npy")
    vectors = dataset.vectors(dataset.shards[0])
    assert isinstance(vectors.image, np.memmap)
    assert np.array_equal(vectors.image, image_vectors())
    assert np.array_equal(vectors.text, text_vectors())
    assert [sample.key for sample in vectors.samples][:2] == ["000000000", "000000001"]


def test_pictures_have_no_vectors(tmp_path: Path) -> None:
    dataset = open_dataset(write_tar(ten_samples(), tmp_path))
    with pytest.raises(DataError, match="embed it first"):
        dataset.vectors(dataset.shards[0])


def test_the_same_key_in_two_tars_is_two_samples(tmp_path: Path) -> None:
    for name in ("a/00000.tar", "b/00000.tar"):
        make_tar(tmp_path / name, [("k.jpg", b"1"), ("k.txt", name.encode())])
    samples = read_all(open_dataset(tmp_path))
    assert {(s.shard, s.key, s.caption) for s in samples} == {
        ("a/00000.tar", "k", "a/00000.tar"),
        ("b/00000.tar", "k", "b/00000.tar"),
    }


def test_brace_lists_and_double_colons_name_tars(tmp_path: Path) -> None:
    for i in range(3):
        make_tar(tmp_path / f"{i:05d}.tar", [(f"{i}.jpg", b"1"), (f"{i}.txt", b"x")])
    braces = open_dataset(f"{tmp_path}/{{00000..00002}}.tar")
    colons = open_dataset(f"{tmp_path}/00000.tar::{tmp_path}/{{00001..00002}}.tar")
    listed = open_dataset([tmp_path / "00000.tar", f"file://{tmp_path}/00001.tar", tmp_path / "00002.tar"])
    assert [s.name for s in braces.shards] == ["00000.tar", "00001.tar", "00002.tar"]
    assert braces.shards == colons.shards == listed.shards


def test_fsspec_urls_are_read_like_files(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/set/00000.tar", write_tar(ten_samples(), tmp_path).read_bytes())
    try:
        for source in ("memory://set/{00000..00000}.tar", "memory://set"):
            dataset = open_dataset(source)
            assert good(dataset) == ten_samples()
            assert [shard.name for shard in dataset.shards] == ["00000.tar"]
    finally:
        memory.rm("/set", recursive=True)


def test_s3_without_its_driver_says_what_to_install() -> None:
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"clipscan\[s3\]"):
            open_dataset("s3://bucket/{00000..00009}.tar")
    else:
        pytest.skip("s3fs is installed; uninstall it to see the message")


def test_a_missing_shard_of_many_is_bad_and_all_missing_is_an_error(tmp_path: Path) -> None:
    make_tar(tmp_path / "00000.tar", [("a.jpg", b"1"), ("a.txt", b"x")])
    outcomes = read_all(open_dataset(f"{tmp_path}/{{00000..00001}}.tar"))
    assert [type(outcome) for outcome in outcomes] == [Sample, Bad]
    assert "No such file" in outcomes[1].reason
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset(f"{tmp_path}/{{00007..00009}}.tar")


def test_nothing_to_read_says_what_was_found(tmp_path: Path) -> None:
    put(tmp_path / "a.mp4", b"1")
    put(tmp_path / "b.mp4", b"1")
    put(tmp_path / "README", b"1")
    with pytest.raises(DataError, match=r"2 \.mp4, 1 without extension"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no webdataset dataset"):
        open_dataset(tmp_path, format="webdataset")
    with pytest.raises(InputError, match="unknown format"):
        open_dataset(tmp_path, format="zip")


def test_a_pipe_is_refused_since_it_runs_a_command() -> None:
    with pytest.raises(DataError, match="run a command"):
        open_dataset("pipe:cat x.tar")


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


def test_every_suffix_of_a_format_that_the_decoder_reads_is_a_picture() -> None:
    from PIL import Image

    from clipscan.data.pictures import IMAGE_EXTENSIONS, UNREAD_EXTENSIONS
    from clipscan.embed.pixels import FORMATS

    Image.init()
    known = {
        suffix[1:] for suffix, format in Image.registered_extensions().items() if format in (*FORMATS, "MPO")
    }
    assert known and known <= set(IMAGE_EXTENSIONS)
    assert not set(IMAGE_EXTENSIONS) & set(UNREAD_EXTENSIONS)


def test_a_folder_lists_every_picture_and_counts_the_rest(tmp_path: Path) -> None:
    from clipscan.data.pictures import IMAGE_EXTENSIONS, UNREAD_EXTENSIONS

    kinds = (*IMAGE_EXTENSIONS, *UNREAD_EXTENSIONS)
    for kind in kinds:
        put(tmp_path / f"page 3.05 {kind}.{kind.upper()}", b"1")
        put(tmp_path / f"page 3.05 {kind}.txt", b"fine")
    for other in ("a.mp4", "b.mp4", "LICENSE", "stray.txt"):
        put(tmp_path / other, b"1")
    dataset = open_dataset(tmp_path)
    outcomes = read_all(dataset)
    assert {o.key for o in outcomes} == {f"page 3.05 {kind}" for kind in kinds}
    bad = {o.key: o.reason for o in outcomes if isinstance(o, Bad)}
    assert set(bad) == {f"page 3.05 {kind}" for kind in UNREAD_EXTENSIONS}
    assert bad["page 3.05 heic"] == "a .heic picture is not decoded here; convert it to .jpg or .png"
    assert dataset.beside == {"mp4": 2, "": 1, "txt": 1}
    assert "passed over, and not copied by apply: 4 files (2 .mp4, " in dataset.describe()


def test_a_raw_file_takes_no_key_from_the_jpg_beside_it(tmp_path: Path) -> None:
    for name in ("a.cr2", "a.jpg", "b.svg", "b.png"):
        put(tmp_path / name, b"1")
        put(tmp_path / f"{name[0]}.txt", b"fine")
    outcomes = read_all(open_dataset(tmp_path))
    assert [(o.key, type(o)) for o in outcomes] == [("a", Bad), ("a", Sample), ("b", Sample), ("b", Bad)]


def test_a_folder_of_pictures_that_nobody_decodes_is_listed_as_bad(tmp_path: Path) -> None:
    put(tmp_path / "a.heic", b"1")
    assert [type(o) for o in read_all(open_dataset(tmp_path))] == [Bad]


def test_files_beside_tars_and_arrays_are_counted_as_passed_over(tmp_path: Path) -> None:
    write_tar(ten_samples(), tmp_path / "tars")
    put(tmp_path / "tars" / "00000_stats.json", b"{}")
    assert open_dataset(tmp_path / "tars").beside == {"json": 1}
    for layout, (write, _) in ALL.items():
        assert not open_dataset(write(ten_samples(), tmp_path / layout)).beside, layout


@pytest.mark.parametrize("column", ["file_name", "image_file_name"])
def test_an_imagefolder_may_keep_its_metadata_in_parquet(column: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["a.jpg", "b.jpg", "../c.jpg", "no.jpg"]
    put(tmp_path / "set" / "a.jpg", b"1")
    put(tmp_path / "set" / "b.jpg", b"2")
    rows = pa.table({column: names, "text": ["one", "two", "x", "x"], "bounding_box": [[1], [2], [], None]})
    pq.write_table(rows, tmp_path / "set" / "metadata.parquet", row_group_size=2)
    dataset = open_dataset(tmp_path / "set")
    outcomes = read_all(dataset)
    assert [o.caption for o in outcomes if isinstance(o, Sample)] == ["one", "two"]
    assert sorted("outside" in o.reason for o in outcomes if isinstance(o, Bad)) == [False, True]
    write_without(dataset, {(".", "a")}, tmp_path / "clean")
    assert pq.read_table(tmp_path / "clean" / "metadata.parquet").equals(rows.slice(1, 1))
    assert (tmp_path / "clean" / "b.jpg").exists() and not (tmp_path / "clean" / "a.jpg").exists()


def test_a_row_without_caption_says_which_fields_it_has(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", b"1")
    put(tmp_path / "metadata.jsonl", b'{"file_name": "a.jpg", "words": "x"}')
    put(tmp_path / "b" / "b.jpg", b"1")
    put(tmp_path / "b" / "b.json", b'{"words": "x"}')
    reasons = [o.reason for o in read_all(open_dataset(tmp_path)) if isinstance(o, Bad)]
    assert "metadata.jsonl, row 0 has the fields file_name, words; --text-key" in reasons[0]
    assert "its .json has the fields words; --text-key" in reasons[1]
    assert [o.caption for o in read_all(open_dataset(tmp_path, text_key="words"))[:1]] == ["x"]


def test_describe_says_the_format_and_how_much(tmp_path: Path) -> None:
    words = open_dataset(write_vector_parquet(ten_samples(), tmp_path)).describe()
    assert words.startswith("embeddings: 1 shard, ")
    assert "column 'image_embedding'" in words


def test_a_table_of_vectors_alone_is_embeddings(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"embedding": list(image_vectors("float32"))}), tmp_path / "t.parquet")
    dataset = open_dataset(tmp_path)
    vectors = dataset.vectors(dataset.shards[0])
    assert np.array_equal(vectors.image, image_vectors("float32"))
    assert vectors.text is None
    assert len(vectors.samples) == 10


def test_tars_win_over_the_embeddings_beside_them(tmp_path: Path) -> None:
    """As in DataComp's folder, where metadata/*.npz lie beside shards/*.tar; the other can be forced."""
    VECTORS["DataComp"][0](ten_samples(), tmp_path / "metadata")
    write_tar(ten_samples(), tmp_path / "shards")
    assert open_dataset(tmp_path).format == "webdataset"
    assert open_dataset(tmp_path, format="embeddings").format == "embeddings"


def test_a_readme_beside_a_csv_does_not_make_it_a_folder(tmp_path: Path) -> None:
    source = PICTURES["tsv in a folder"][0](ten_samples(), tmp_path)
    put(tmp_path / "README.txt", b"hello")
    assert open_dataset(source).format == "csv"
