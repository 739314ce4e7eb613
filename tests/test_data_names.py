"""Brace lists, grouping and text: rules stated as properties, and compared with other people's code."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from data_helpers import add, make_tar, ten_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import write_tar

from clipscan.data import Sample, open_dataset
from clipscan.data.braces import MAX_NAMES, expand_braces
from clipscan.data.inventory import relative_names
from clipscan.data.tar_groups import split_name
from clipscan.data.tar_members import members
from clipscan.data.text import Unfit, caption_text, printable
from clipscan.errors import InputError

WORDS = st.text("abc./-_ü", max_size=4)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{00..02}.tar", ["00.tar", "01.tar", "02.tar"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{a..c}", ["a", "b", "c"]),
        ("{x,y{1..2}}z", ["xz", "y1z", "y2z"]),
        ("{a,}b", ["ab", "b"]),
        ("{a}{b,c}", ["{a}b", "{a}c"]),
        ("{}", ["{}"]),
        ("{a", ["{a"]),
        ("a}", ["a}"]),
        ("{a,b", ["{a,b"]),
        ("}{a,b}", ["}a", "}b"]),
    ],
)
def test_braces_expand_as_in_a_shell(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


def test_an_endless_range_is_refused() -> None:
    for pattern in ("{0..999999999999}", "{0..9}" * 7, f"{{1..{MAX_NAMES + 1}}}"):
        with pytest.raises(InputError, match="more than"):
            expand_braces(pattern)


@given(st.lists(WORDS, min_size=2, max_size=4), WORDS, WORDS)
def test_a_comma_list_is_its_parts_between_head_and_tail(parts: list[str], head: str, tail: str) -> None:
    assert expand_braces(head + "{" + ",".join(parts) + "}" + tail) == [head + part + tail for part in parts]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 6))
def test_a_padded_range_counts(first: int, length: int, width: int) -> None:
    low, high = f"{first:0{width}d}", f"{first + length:0{width}d}"
    names = expand_braces(f"s-{{{low}..{high}}}.tar")
    assert [int(name[2:-4]) for name in names] == list(range(first, first + length + 1))
    assert names == sorted(names, key=lambda name: (len(name), name))


@given(st.text("{},.0aé", max_size=12))
def test_no_pattern_breaks_the_expander(pattern: str) -> None:
    assert expand_braces(pattern)


@given(st.text("{},.0123ab", max_size=14))
def test_braces_agree_with_the_braceexpand_package(pattern: str) -> None:
    theirs = pytest.importorskip(
        "braceexpand", reason="pip install braceexpand compares our brace lists with it"
    )
    if (
        "{}" in pattern or ".." in pattern
    ):  # it raises for some of these, and pads negative numbers differently
        return
    try:
        expected = list(theirs.braceexpand(pattern))
    except theirs.UnbalancedBracesError:
        return
    assert expand_braces(pattern) == expected


def test_names_are_relative_to_the_common_root() -> None:
    assert relative_names(["/d"], ["/d/a.tar", "/d/b/a.tar"]) == {
        "/d/a.tar": "a.tar",
        "/d/b/a.tar": "b/a.tar",
    }
    assert relative_names(["/d/a.tar"], ["/d/a.tar"]) == {"/d/a.tar": "a.tar"}
    assert relative_names(["/d/a1/x", "/d/a2/x"], ["/d/a1/x", "/d/a2/x"]) == {
        "/d/a1/x": "a1/x",
        "/d/a2/x": "a2/x",
    }


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a", "jpg")),
        ("d.e/a.seg.PNG", ("d.e/a", "seg.png")),
        ("./a.jpg", ("./a", "jpg")),
        ("d.e/a", None),
        (".hidden", None),
        ("a", None),
        ("", None),
    ],
)
def test_a_key_ends_at_the_first_dot_of_the_last_component(name: str, parts: tuple[str, str] | None) -> None:
    assert split_name(name) == parts


@settings(deadline=None)  # the first example imports webdataset
@given(st.text("ab./_-ü", max_size=12))
def test_names_split_as_webdataset_splits_them(name: str) -> None:
    theirs = pytest.importorskip(
        "webdataset.tariterators", reason="pip install webdataset compares the grouping"
    )
    key, ext = theirs.base_plus_ext(name)
    assert split_name(name) == (None if key is None else (key, ext.lower()))


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "d/c"]), st.sampled_from(["jpg", "txt", "json", "x.y"])),
        max_size=12,
    )
)
def test_consecutive_members_of_one_key_are_one_sample(names: list[tuple[str, str]]) -> None:
    """Against the rule in one line: good = first run of a key, no member twice, a picture and a caption."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, ext in names:
            add(tar, f"{key}.{ext}", b"{}" if ext == "json" else b"1")
    runs: list[tuple[str, list[str]]] = []
    for key, ext in names:
        if not runs or runs[-1][0] != key:
            runs.append((key, []))
        runs[-1][1].append(ext)
    expected: list[str] = []
    seen: set[str] = set()
    for key, exts in runs:
        if {"jpg", "txt"} <= set(exts) and len(set(exts)) == len(exts) and key not in seen:
            expected.append(key)
        if len(set(exts)) < len(exts) or {"jpg", "txt"} & set(exts):
            seen.add(key)
    from clipscan.data.extensions import Rules
    from clipscan.data.tar_groups import member_groups

    buffer.seek(0)
    found = [
        g
        for g in member_groups(buffer, len(buffer.getvalue()), "t.tar", Rules())
        if isinstance(g.outcome, Sample)
    ]
    assert [group.key for group in found] == expected


def test_a_normal_tar_groups_as_webdataset_groups_it(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="pip install webdataset compares the grouping with it")
    tar = write_tar(ten_samples(), tmp_path)
    theirs = [
        (s["__key__"], s["jpg"], s["txt"].decode()) for s in wds.WebDataset(str(tar), shardshuffle=False)
    ]
    ours = [(s.key, s.image, s.caption) for s in read(tar)]
    assert ours == theirs


def test_our_walk_sees_the_members_that_tarfile_sees(tmp_path: Path) -> None:
    names = ["a.jpg", "d/" * 60 + "long.txt", "ü" * 90 + ".png", "x" * 300]
    for format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        chosen = names[:1] if format == tarfile.USTAR_FORMAT else names
        path = make_tar(tmp_path / "t.tar", [(name, name.encode()) for name in chosen], format=format)
        with tarfile.open(path) as theirs, open(path, "rb") as stream:
            ours = [(m.name, m.size, m.data) for m in members(stream, path.stat().st_size)]
            assert ours == [(m.name, m.size, m.offset_data) for m in theirs.getmembers()]


def read(path: Path) -> list[Sample]:
    dataset = open_dataset(path)
    return [s for shard in dataset.shards for s in dataset.read(shard) if isinstance(s, Sample)]


@given(st.text(st.characters(), max_size=30) | st.binary(max_size=30))
def test_a_caption_is_valid_text_or_unfit(value: str | bytes) -> None:
    try:
        caption = caption_text(value)
    except Unfit as unfit:
        assert "caption" in str(unfit)
    else:
        assert caption == caption.strip() != ""
        caption.encode("utf-8")


@given(st.text(st.characters(), max_size=30))
def test_a_printable_name_is_one_line_of_valid_text(name: str) -> None:
    shown = printable(name)
    shown.encode("utf-8")
    assert not any(char in shown for char in "\n\r\t\0\x1b")
    assert printable(shown) == shown
