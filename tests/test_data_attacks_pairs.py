"""Members of a tar that make no pair are bad or passed over with a reason, and their neighbours are read."""

from __future__ import annotations

import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from data_helpers import JPEG, PAIR, make_tar, only_bad, read_all

from clipscan.data import Bad, Sample, open_dataset

SPOILT = {
    "no caption": ([("k.jpg", JPEG)], "no caption among its members (.jpg)"),
    "no picture": ([("k.txt", b"x")], "no picture among its members (.txt)"),
    "empty picture": ([("k.jpg", b""), ("k.txt", b"x")], "picture is empty (0 bytes)"),
    "empty caption": ([("k.jpg", JPEG), ("k.txt", b" \n")], "caption is empty"),
    "caption not UTF-8": ([("k.jpg", JPEG), ("k.txt", b"caf\xe9")], "not UTF-8: byte 0xe9 at 3"),
    "endless caption": ([("k.jpg", JPEG), ("k.txt", b"x" * 70_000)], "70,000 characters"),
    "oversized caption": ([("k.jpg", JPEG), ("k.txt", bytes(2 << 20))], "2,097,152 bytes, the limit is"),
    "deep JSON": ([("k.jpg", JPEG), ("k.json", b'{"a":' * 100_000)], "nested too deeply"),
    "JSON list": ([("k.jpg", JPEG), ("k.json", b"[1]")], "is a JSON list"),
    "broken JSON": ([("k.jpg", JPEG), ("k.json", b"{")], "is not JSON"),
    "number as caption": ([("k.jpg", JPEG), ("k.json", b'{"caption": 7}')], "type int, not text"),
    "endless number": ([("k.jpg", JPEG), ("k.json", b'{"caption": %s}' % (b"7" * 9999))], "is not JSON"),
    "half a surrogate": ([("k.jpg", JPEG), ("k.json", rb'{"caption": "\ud800"}')], "not valid Unicode"),
    "same member twice": ([("k.jpg", JPEG), ("k.jpg", b"2"), ("k.txt", b"x")], "comes twice"),
    "40,000 members": ([(f"k.{i}", b"") for i in range(40_000)], "more than 1,024 members have this key"),
    "caption under another name": (
        [("k.jpg", JPEG), ("k.json", b'{"alt_text": "x", "n": 1}')],
        "caption is missing: the .json has the fields alt_text, n; --text-key names another field",
    ),
    "a thousand fields": (
        [("k.jpg", JPEG), ("k.json", json.dumps({f"f{i}" * 99: 1 for i in range(1000)}).encode())],
        "and 984 more; --text-key",
    ),
    "dots in picture's name": ([("k.3.05.png", JPEG), ("k.txt", b"x")], "--image-key '3.05.png' would read"),
    "dots in caption's name": ([("k.jpg", JPEG), ("k.out.txt", b"x")], "--text-key 'out.txt' would read"),
    "dots in both": (
        [("k.in.jpg", JPEG), ("k.out.txt", b"x")],
        "no picture among its members (.in.jpg, .out",
    ),
    "dots, picture alone": ([("k.1.png", JPEG)], "no picture among its members (.1.png)"),
    "picture of no decoder": ([("k.heic", JPEG)], "a .heic picture is not decoded here"),
}


@pytest.mark.parametrize("attack", SPOILT)
@pytest.mark.parametrize("first", [True, False])
def test_a_spoilt_sample_is_bad_and_its_neighbour_is_not(attack: str, first: bool, tmp_path: Path) -> None:
    members, reason = SPOILT[attack]
    tar = make_tar(tmp_path / "t.tar", members + PAIR if first else PAIR + members)
    bad = only_bad(tar)
    assert bad.key == "k"
    assert reason in bad.reason


def test_a_spoilt_json_beside_a_good_caption_costs_only_its_tags(tmp_path: Path) -> None:
    (sample,) = read_all(open_dataset(make_tar(tmp_path / "t.tar", [*PAIR, ("ok.json", b"{{{")])))
    assert (sample.caption, sample.uid) == ("fine", "")


def test_a_key_that_comes_back_is_bad_the_second_time(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", [*PAIR, ("z.cls", b"1"), ("ok.jpg", b"other"), ("ok.txt", b"other")])
    assert "comes again" in only_bad(tar).reason


def test_a_tar_of_all_pictures_then_all_captions_is_bad_with_a_reason(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", [("a.jpg", JPEG), ("b.jpg", JPEG), ("a.txt", b"a"), ("b.txt", b"b")])
    reasons = [bad.reason for bad in read_all(open_dataset(tar))]
    assert ["no caption" in r for r in reasons] == [True, True, False, False]
    assert ["follow each other" in r for r in reasons] == [False, False, True, True]


def test_what_is_no_pair_in_a_tar_is_passed_over(tmp_path: Path) -> None:
    extra = [("README.md", b"1"), ("LICENSE", b"1"), ("__index__/x.jpg", b"1"), ("stats.json", b'{"n": 1}')]
    tar = make_tar(tmp_path / "t.tar", [extra[0], PAIR[0], *extra[1:3], PAIR[1], extra[3]])
    assert [s.key for s in read_all(open_dataset(tar))] == ["ok"]


def test_what_is_passed_over_in_a_tar_is_counted_by_kind(tmp_path: Path) -> None:
    odd = [("README.md", b"1"), ("LICENSE", b"1"), ("n.mp4", b"1"), ("m.mp4", b"1"), ("s.v1.json", b"{}")]
    dataset = open_dataset(make_tar(tmp_path / "t.tar", [*odd, *PAIR]))
    read_all(dataset)
    assert dataset.passed == {"t.tar": {"md": 1, "": 1, "mp4": 2, "v1.json": 1}}


def test_a_tar_without_samples_names_its_kinds_and_the_two_options(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", [("a.input", JPEG), ("a.target", b"x"), ("b.input", JPEG)])
    (bad,) = read_all(open_dataset(tar))
    assert "2 .input, 1 .target; --image-key" in bad.reason
    assert "--text-key" in bad.reason
    (sample,) = read_all(open_dataset(tar, image_key="input", text_key="target"))[:1]
    assert sample.caption == "x"


def test_names_with_dots_are_read_by_the_options_that_their_reason_names(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t.tar", [("x.input.jpg", JPEG), ("x.outputs.txt", b"fine")])
    (sample,) = read_all(open_dataset(tar, image_key="input.jpg", text_key="outputs.txt"))
    assert (sample.key, sample.caption) == ("x", "fine")


def test_names_of_a_megabyte_are_bad_and_not_kept(tmp_path: Path) -> None:
    name = "n" * 1_000_000
    members = [(f"{i}{name}.{ext}", b"x") for i in range(20) for ext in ("jpg", "txt")]
    endings = [(f"k.{i}{name}", b"x") for i in range(20)]
    tar = make_tar(tmp_path / "t.tar", [*members, *endings, *PAIR], format=tarfile.GNU_FORMAT)
    del members, endings
    tracemalloc.start()
    outcomes = read_all(open_dataset(tar))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [type(o) for o in outcomes] == [Bad] * 60 + [Sample]
    assert all("the limit is 4,096" in bad.reason and len(bad.key) < 200 for bad in outcomes[:-1])
    assert len({bad.key for bad in outcomes[:-1]}) == 60
    assert peak < 12 << 20  # 60 MB of names; one is in memory at a time


def test_keys_that_would_fill_the_memory_end_the_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipscan.data.tar_groups.MAX_KEY_CHARS", 1000)
    members = [(f"{i:0100d}.{ext}", JPEG) for i in range(30) for ext in ("jpg", "png")]
    bads = [o for o in read_all(open_dataset(make_tar(tmp_path / "t.tar", members))) if isinstance(o, Bad)]
    assert "keys of the tar have more than 1,000 characters" in bads[-1].reason
    assert len(bads) < 15
