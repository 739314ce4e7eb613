"""Tables of strangers: what a quote may swallow, which column is the caption, and which letters they use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_helpers import JPEG, put, read_all, tree

from clipscan.data import Bad, Sample, open_dataset, write_without
from clipscan.data.csv_rows import MAX_ROW_LINES
from clipscan.errors import DataError, InputError


def table(folder: Path, *lines: str, name: str = "t.csv", header: str = "filepath,title") -> Path:
    put(folder / "x.jpg", JPEG)
    return put(folder / name, "\n".join([header, *lines, ""]).encode())


def captions(source: Path, **how) -> list[str]:
    return [o.caption if isinstance(o, Sample) else "BAD" for o in read_all(open_dataset(source, **how))]


def test_a_quote_that_nobody_closes_costs_its_own_row(tmp_path: Path) -> None:
    rows = [f"x.jpg,row {i}" for i in range(60)]
    rows[20] = 'x.jpg,"a screen of 5'
    rows[55] = 'x.jpg,"closed" and not'
    source = table(tmp_path, *rows)
    found = read_all(open_dataset(source))
    assert len(found) == 60
    assert [i for i, o in enumerate(found) if isinstance(o, Bad)] == [20]
    assert "line 22 opens a quote that is not closed within 32 lines; lines 22 to 54" in found[20].reason
    assert [o.caption for o in found[21:25]] == [f"row {i}" for i in range(21, 25)]
    assert captions(source, quoting="none")[20] == '"a screen of 5'


@pytest.mark.parametrize(
    "closing",
    ['x.jpg,"the next quote"', '"x.jpg",b', 'x.jpg,5"', 'x.jpg," y "z" "', "x.jpg,the end of the file"],
)
@pytest.mark.parametrize("between", [0, 1, 5])
def test_a_quote_swallows_no_rows_wherever_it_closes(closing: str, between: int, tmp_path: Path) -> None:
    rows = ["x.jpg,first", 'x.jpg,"open', *["x.jpg,between"] * between, closing]
    found = captions(table(tmp_path, *rows))
    assert len(found) == len(rows)
    assert found[:2] == ["first", "BAD"]
    assert found[2:-1] == ["between"] * between
    assert found[-1] not in ("BAD", "")


@pytest.mark.parametrize("header", ["filepath,title", "title,filepath"])
def test_captions_of_several_lines_are_read(header: str, tmp_path: Path) -> None:
    longest = "\n".join(f"line {i}, with a comma" for i in range(MAX_ROW_LINES))
    wanted = ["a\nb", 'say ""twice""\nand again', longest, "plain", "blank\n\nline"]
    image_first = header.startswith("file")
    rows = [f'x.jpg,"{text}"' if image_first else f'"{text}",x.jpg' for text in wanted]
    found = captions(table(tmp_path, *rows, header=header))
    assert found == [text.replace('""', '"') for text in wanted]
    over = table(tmp_path / "over", f'x.jpg,"{longest}\nover"', "x.jpg,next")
    assert captions(over)[0] == "BAD" and captions(over)[-1] == "next"


def test_every_line_that_opens_a_quote_is_one_bad_row(tmp_path: Path) -> None:
    """Bounded work: each of them looks ahead a bounded number of lines."""
    found = captions(table(tmp_path, *[f'x.jpg,"{i}' for i in range(3001)]))
    assert len(found) == 3001
    assert found == ["BAD"] * 3000 + ["3000"]


def test_line_numbers_are_those_of_the_file_in_every_shard(tmp_path: Path) -> None:
    rows = [f"x.jpg,{i}" for i in range(20)]
    rows[3] = 'x.jpg,"two\nlines"'
    rows[15] = 'x.jpg,"open'
    dataset = open_dataset(table(tmp_path, *rows), rows_per_shard=6)
    found = read_all(dataset)
    assert len(found) == 20 and len(dataset.shards) == 4
    assert "line 18 opens" in found[15].reason
    assert dataset.shards[2].rows == (12, 18)
    write_without(dataset, set(), tmp_path / "clean")
    assert captions(tmp_path / "clean" / "t.csv") == [o.caption for o in found if isinstance(o, Sample)]


def test_quoting_none_also_reads_the_metadata_of_a_folder(tmp_path: Path) -> None:
    table(tmp_path, 'x.jpg,"5', header="file_name,text", name="metadata.csv")
    assert captions(tmp_path, quoting="none") == ['"5']
    with pytest.raises(InputError, match="unknown quoting"):
        open_dataset(tmp_path, quoting="all")


def test_tables_of_one_set_may_name_their_caption_differently(tmp_path: Path) -> None:
    table(tmp_path, "x.jpg,a", name="1.csv")
    table(tmp_path, "b\tx.jpg", name="2.tsv", header="caption\tfile_name")
    table(tmp_path, " c;x.jpg", name="3.csv", header="TEXT; Image ")
    table(tmp_path, "x.jpg,d", name="4.csv", header="filepath,words")
    found = read_all(open_dataset(tmp_path))
    assert [o.caption for o in found if isinstance(o, Sample)] == ["a", "b", "c"]
    assert "['filepath', 'words'], not one of title" in found[3].reason and found[3].shard == "4.csv"
    assert captions(tmp_path, text_key="title;caption;text;words") == ["a", "b", "c", "d"]
    write_without(open_dataset(tmp_path), set(), tmp_path / "clean")
    assert set(tree(tmp_path / "clean")) == {"1.csv", "2.tsv", "3.csv", "x.jpg"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_table_of_other_letters_is_named_as_such(encoding: str, tmp_path: Path) -> None:
    text = "filepath,title\nx.jpg,fine\n"
    put(tmp_path / "t.csv", text.encode(encoding))
    with pytest.raises(DataError, match=r"it is UTF-(16|32).*iconv"):
        open_dataset(tmp_path / "t.csv")
    table(tmp_path, "x.jpg,fine", name="u.csv")
    bad, sample = read_all(open_dataset(tmp_path))
    assert "UTF-" in bad.reason and isinstance(sample, Sample)


def test_pictures_that_no_row_names_are_counted_as_passed_over(tmp_path: Path) -> None:
    table(tmp_path, "x.jpg,fine", "sub\\y.jpg,fine")
    for name in ("sub/y.jpg", "z.jpg", "z.png", "README"):
        put(tmp_path / name, JPEG)
    dataset = open_dataset(tmp_path)
    assert dataset.format == "csv"
    assert dataset.beside == {"jpg": 1, "png": 1, "": 1}
    assert "passed over, and not copied by apply: 3 files (1 " in dataset.describe()


@pytest.mark.parametrize("name", ["filepath", "title"])
def test_two_columns_of_the_name_that_is_read_are_refused(name: str, tmp_path: Path) -> None:
    """pandas takes the first of them, csv.DictReader the last: which of them would have been scanned?"""
    with pytest.raises(DataError, match=f"2 columns '{name}'; rename"):
        open_dataset(table(tmp_path, "x.jpg,a,b", header=f"filepath,title,{name}"))
    put(tmp_path / "folder" / "x.jpg", JPEG)
    table(tmp_path / "folder", "x.jpg,a,b", header="file_name,text,text", name="metadata.csv")
    reasons = {bad.key: bad.reason for bad in read_all(open_dataset(tmp_path / "folder"))}
    assert "2 columns 'text'" in reasons["metadata.csv"] and reasons.keys() == {"metadata.csv", "x"}


def test_a_caption_that_goes_on_beyond_the_header_is_bad_and_not_cut(tmp_path: Path) -> None:
    rows = ["x.jpg,a cat, a dog", 'x.jpg,"a cat, a dog"', "x.jpg,nothing in them,, ", "x.jpg,last"]
    found = read_all(open_dataset(source := table(tmp_path, *rows)))
    assert "row 0 (line 2) has 3 cells, the header 2" in found[0].reason
    assert captions(source)[1:] == ["a cat, a dog", "nothing in them", "last"]
    assert captions(source, quoting="none")[1] == "BAD"


def test_a_header_that_cannot_be_read_is_refused_in_words(tmp_path: Path) -> None:
    for header, reason in {
        "": "is empty",
        " , ": "is empty",
        'filepath,"title\nover two lines",title': "not valid csv",
        "url,caption": "img2dataset",
    }.items():
        with pytest.raises(DataError, match=reason):
            open_dataset(table(tmp_path, "x.jpg,a,b", header=header))


def test_lines_that_end_in_a_carriage_return_alone_are_named_as_such(tmp_path: Path) -> None:
    put(tmp_path / "t.csv", b"filepath,title\rx.jpg,fine\r")
    with pytest.raises(DataError, match="lines end in CR alone.* tr "):
        open_dataset(tmp_path / "t.csv")


@pytest.mark.parametrize("name", [".", "sub", "..", "", "https://example.org/x.jpg"])
def test_a_row_that_names_no_picture_file_costs_itself(name: str, tmp_path: Path) -> None:
    put(tmp_path / "sub" / "x.jpg", JPEG)
    assert captions(table(tmp_path, "x.jpg,a", f"{name},b", "x.jpg,c")) == ["a", "BAD", "c"]
    put(tmp_path / "folder" / "x.jpg", JPEG)
    put(tmp_path / "folder" / "sub" / "y.jpg", JPEG)
    table(tmp_path / "folder", "x.jpg,a", f"{name},b", header="file_name,text", name="metadata.csv")
    found = read_all(open_dataset(tmp_path / "folder"))
    assert [o.caption for o in found if isinstance(o, Sample)] == ["a"] and len(found) == 3


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_metadata_of_a_folder_is_read_as_other_tables_are(separator: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(data / "x.jpg", JPEG)
    rows = [f"x.jpg{separator}one, two"]
    table(data, *rows, header=f"File_Name{separator}Caption", name="metadata.csv")
    assert captions(data) == ["one, two"]
    write_without(open_dataset(data), set(), tmp_path / "clean")
    assert captions(tmp_path / "clean") == ["one, two"]


def test_blank_lines_of_metadata_are_no_rows(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for i in range(3):
        put(data / f"{i}.jpg", JPEG)
    lines = [json.dumps({"file_name": f"{i}.jpg", "text": str(i)}) for i in range(3)]
    put(data / "metadata.jsonl", "\n\n".join(lines).encode() + b"\n\n")
    assert captions(data) == ["0", "1", "2"]
    write_without(open_dataset(data), {(".", "1")}, tmp_path / "clean")
    assert captions(tmp_path / "clean") == ["0", "2"]


def test_captions_beside_pictures_may_have_suffixes_in_capitals(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("a.JPG", "b.Jpeg", "c.jpg", "d.jpg"):
        put(data / name, JPEG)
    put(data / "a.TXT", b"a")
    put(data / "b.Txt", b"b")
    put(data / "c.txt", b"c")
    put(data / "c.TXT", b"another")
    put(data / "d.JSON", b'{"caption": "d"}')
    dataset = open_dataset(data)
    assert captions(data) == ["a", "b", "c", "d"]
    assert dataset.beside == {"txt": 1}
    write_without(dataset, {(".", "c")}, tmp_path / "clean")
    assert set(tree(tmp_path / "clean")) == {"a.JPG", "a.TXT", "b.Jpeg", "b.Txt", "d.JSON", "d.jpg"}
    before = dataset.shards[0].stamp
    put(data / "a.TXT", b"changed")
    assert open_dataset(data).shards[0].stamp != before
