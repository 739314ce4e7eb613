"""Every layout gives the same ten samples, and gives them again."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_helpers import good, make_tar, read_all, ten_samples
from layouts import ALL, VECTORS, image_vectors, text_vectors, write_tar, write_vector_parquet

from clipscan.data import Sample, open_dataset
from clipscan.errors import DataError


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
