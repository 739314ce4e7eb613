"""One bad file or row of somebody's embeddings costs itself: listed with its reason, the rest is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import good, put, read_all
from embedding_helpers import ROWS, rows
from layouts import image_vectors, text_vectors

import clipscan
from clipscan import pipeline
from clipscan.data import Bad, Sample, open_dataset
from clipscan.run import Run

ASKED = {"k": 3, "reference": "20x2", "graph": "yes"}


def folder(to: Path, files: int = 3) -> Path:
    """clip-retrieval's layout: files of 40 rows, with captions and metadata."""
    for number in range(files):
        for kind, seed in (("img_emb", number), ("text_emb", 100 + number)):
            (to / kind).mkdir(parents=True, exist_ok=True)
            np.save(to / kind / f"{kind}_{number}.npy", rows(seed))
        (to / "metadata").mkdir(exist_ok=True)
        write_metadata(to, number, ROWS)
    return to


def write_metadata(to: Path, number: int, count: int) -> None:
    keys = [f"{number}-{row}" for row in range(count)]
    pq.write_table(pa.table({"key": keys, "caption": keys}), to / f"metadata/metadata_{number}.parquet")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


SPOILT_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda to: cut(to / "img_emb/img_emb_1.npy"), "cannot read"),
    "empty file": (lambda to: put(to / "img_emb/img_emb_1.npy", b""), "cannot read"),
    "no rows, no width": (lambda to: np.save(to / "img_emb/img_emb_1.npy", np.empty(0)), "(0,)"),
    "width zero": (lambda to: np.save(to / "img_emb/img_emb_1.npy", np.empty((ROWS, 0))), "(40, 0)"),
    "integers": (lambda to: np.save(to / "img_emb/img_emb_1.npy", np.ones((ROWS, 6), int)), "int64"),
    "another width": (lambda to: np.save(to / "img_emb/img_emb_1.npy", rows(1, 7)), "width 7, most files"),
    "captions of another width": (
        lambda to: np.save(to / "text_emb/text_emb_1.npy", rows(1, 7)),
        "width 7, most files",
    ),
    "captions truncated": (lambda to: cut(to / "text_emb/text_emb_1.npy"), "cannot read"),
    "metadata one row short": (lambda to: write_metadata(to, 1, ROWS - 1), "has 40 rows"),
    "metadata one row long": (lambda to: write_metadata(to, 1, ROWS + 1), "has 41"),
    "metadata broken": (lambda to: cut(to / "metadata/metadata_1.parquet"), "cannot read"),
}


@pytest.mark.parametrize("fault", SPOILT_FILES)
def test_a_spoilt_file_is_bad_as_a_whole_and_the_run_goes_on(fault: str, tmp_path: Path) -> None:
    spoil, reason = SPOILT_FILES[fault]
    spoil(folder(tmp_path / "set"))
    done = clipscan.scan(tmp_path / "set", out=tmp_path / "run", **ASKED)
    assert done.counts == {**done.counts, "listed": 2 * ROWS + 1, "embedded": 2 * ROWS, "bad": 1}
    (bad,) = done.table("bad").to_pylist()
    assert (bad["shard"], bad["key"]) == ("img_emb/img_emb_1.npy", "")
    assert reason in bad["reason"]
    again = clipscan.scan(tmp_path / "set", out=tmp_path / "run", **ASKED)
    assert again.counts == done.counts


@pytest.mark.parametrize("fault", SPOILT_FILES)
def test_what_cannot_be_paired_is_not_written_into_a_cleaned_set(fault: str, tmp_path: Path) -> None:
    SPOILT_FILES[fault][0](folder(tmp_path / "set"))
    clipscan.scan(tmp_path / "set", out=tmp_path / "run", **ASKED)
    pipeline.apply(Run(tmp_path / "run"), tmp_path / "clean")
    after = open_dataset(tmp_path / "clean")
    assert [shard.name for shard in after.shards] == ["img_emb/img_emb_0.npy", "img_emb/img_emb_2.npy"]


def test_rows_that_the_search_would_refuse_are_bad_at_the_door(tmp_path: Path) -> None:
    to = folder(tmp_path / "set", files=1)
    image, text = rows(0).astype(np.float64), rows(100)
    image[3], image[5, 0], image[7, 0], text[9, 1] = np.nan, np.inf, 1e20, -np.inf
    image[11, 0], image[13] = 1e300, 0
    np.save(to / "img_emb/img_emb_0.npy", image)
    np.save(to / "text_emb/text_emb_0.npy", text)
    done = clipscan.scan(to, out=tmp_path / "run", **ASKED)
    bad = done.table("bad").to_pylist()
    assert [one["key"] for one in bad] == ["0-3", "0-5", "0-7", "0-9", "0-11"]
    assert all("not finite, or its norm is above 3e18" in one["reason"] for one in bad)
    assert [one["reason"].startswith("of its caption") for one in bad] == [False, False, False, True, False]
    assert done.counts["embedded"] == ROWS - 5
    with pytest.raises(clipscan.InputError, match=r"rows 3, 5, 7, 11;"):
        clipscan.score(image, k=3, reference="20x2")


def test_a_null_or_ragged_row_of_a_column_is_bad_and_named_by_its_number(tmp_path: Path) -> None:
    lists: list[list[float] | None] = rows(width=4).tolist()
    lists[0], lists[9], lists[23], lists[31] = [1.0], None, [1.0] * 5, []
    table = pa.table({"embedding": lists, "id": [f"k{row}" for row in range(ROWS)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=10)
    dataset = open_dataset(tmp_path / "t.parquet", rows_per_shard=10)
    assert len(dataset.shards) == 4
    bad = [outcome for outcome in read_all(dataset) if isinstance(outcome, Bad)]
    assert [(one.key, one.reason) for one in bad] == [
        ("k0", "its embedding is of width 1, others of width 4 (row 0)"),
        ("k9", "its embedding is missing (row 9)"),
        ("k23", "its embedding is of width 5, others of width 4 (row 23)"),
        ("k31", "its embedding is of width 0, others of width 4 (row 31)"),
    ]
    done = clipscan.scan(tmp_path / "t.parquet", out=tmp_path / "run", **ASKED)
    assert [row["reason"] for row in done.table("bad").to_pylist()] == [one.reason for one in bad]
    image, _, samples, why = dataset.vectors(dataset.shards[2])
    assert (samples[3].key, list(why)) == ("k23", [3])
    assert np.isnan(image[3]).all() and np.array_equal(image[4:], rows(width=4)[24:30])


def test_the_width_of_most_files_is_the_datasets(tmp_path: Path) -> None:
    widths = {"a": 5, "b": 6, "c": 6, "d": 5, "e": 6}
    for name, width in widths.items():
        lists = pa.array(rows(width=width, count=4).tolist(), pa.list_(pa.float32()))
        pq.write_table(pa.table({"embedding": lists}), tmp_path / f"{name}.parquet")
    outcomes = read_all(open_dataset(tmp_path))
    bad = [outcome.shard for outcome in outcomes if isinstance(outcome, Bad)]
    assert bad == ["a.parquet", "d.parquet"]
    assert sum(isinstance(outcome, Sample) for outcome in outcomes) == 12


def test_of_equally_many_widths_the_first_files_is_taken(tmp_path: Path) -> None:
    for name, width in {"a": 5, "b": 6}.items():
        np.save(tmp_path / f"{name}.npy", rows(width=width, count=4))
    outcomes = read_all(open_dataset(tmp_path))
    assert [outcome.shard for outcome in outcomes if isinstance(outcome, Bad)] == ["b.npy"]


def test_a_broken_npz_does_not_hide_the_others(tmp_path: Path) -> None:
    put(tmp_path / "0000.npz", b"no zip")
    for name in ("0001", "0002"):
        np.savez(tmp_path / f"{name}.npz", l14_img=rows(), l14_txt=rows(1))
    np.savez(tmp_path / "0003.npz", b32_img=rows())
    outcomes = read_all(open_dataset(tmp_path))
    bad = {outcome.shard: outcome.reason for outcome in outcomes if isinstance(outcome, Bad)}
    assert bad.keys() == {"0000.npz", "0003.npz"}
    assert "cannot read" in bad["0000.npz"] and "has no array 'l14_img'" in bad["0003.npz"]
    assert len(outcomes) == 2 * ROWS + 2


def _parts(layout: str, folder: Path, texts: list[bool]) -> Path:
    """One file of ten pictures each, some with vectors of their captions."""
    for i, text in enumerate(texts):
        images, captions = image_vectors(), text_vectors()
        if layout == "DataComp":
            folder.mkdir(exist_ok=True)
            np.savez(folder / f"{i}.npz", **{"l14_img": images} | ({"l14_txt": captions} if text else {}))
            pq.write_table(pa.table({"uid": [f"{i}{row}" for row in range(10)]}), folder / f"{i}.parquet")
        elif layout == "parquet":
            folder.mkdir(exist_ok=True)
            columns = {"image_embedding": images} | ({"text_embedding": captions} if text else {})
            pq.write_table(
                pa.table({name: list(one) for name, one in columns.items()}), folder / f"{i}.parquet"
            )
        else:
            for kind, array in [("img_emb", images), ("text_emb", captions)][: 1 + text]:
                (folder / kind).mkdir(parents=True, exist_ok=True)
                np.save(folder / kind / f"{kind}_{i}.npy", array)
    return folder


@pytest.mark.parametrize("layout", ["clip-retrieval", "DataComp", "parquet"])
@pytest.mark.parametrize("without", [0, 2])
def test_a_file_without_text_vectors_is_bad_and_takes_them_from_no_other(
    layout: str, without: int, tmp_path: Path
) -> None:
    """Whichever it is: without them in one file, no pair of the dataset was compared with its caption."""
    dataset = open_dataset(_parts(layout, tmp_path / "set", [i != without for i in range(3)]))
    found = [[*dataset.read(shard)] for shard in dataset.shards]
    assert [len(of) for of in found] == [1 if i == without else 10 for i in range(3)]
    (bad,) = found[without]
    assert isinstance(bad, Bad) and "no vectors of its captions, as 2 of the 3" in bad.reason
    full = [shard for i, shard in enumerate(dataset.shards) if i != without]
    assert all(dataset.vectors(shard).text is not None for shard in full)


@pytest.mark.parametrize("layout", ["clip-retrieval", "DataComp", "parquet"])
def test_where_most_files_have_no_text_vectors_it_is_said_that_none_are_compared(
    layout: str, tmp_path: Path
) -> None:
    dataset = open_dataset(_parts(layout, tmp_path / "few", [False, True, False]))
    assert len(good(dataset)) == 30
    assert "pictures and captions are not compared" in dataset.describe()
    assert "compared" not in open_dataset(_parts(layout, tmp_path / "none", [False] * 2)).describe()
