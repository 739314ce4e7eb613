"""Folders of pictures: what is listed, what is counted as passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_helpers import put, read_all, ten_samples
from layouts import ALL, PICTURES, write_tar

from clipscan.data import Bad, Sample, open_dataset, write_without


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


def test_a_readme_beside_a_csv_does_not_make_it_a_folder(tmp_path: Path) -> None:
    source = PICTURES["tsv in a folder"][0](ten_samples(), tmp_path)
    put(tmp_path / "README.txt", b"hello")
    assert open_dataset(source).format == "csv"
