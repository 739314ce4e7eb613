"""Whatever a dataset holds, reading it ends with samples and reasons, never with an exception."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import (
    JPEG,
    add,
    good,
    make_tar,
    put,
    read_all,
    ten_samples,
    write_csv,
    write_hf_parquet,
    write_metadata_jsonl,
    write_tar,
    write_tar_gz,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipscan.data import Bad, Sample, open_dataset
from clipscan.errors import DataError

PAIR = [("ok.jpg", JPEG), ("ok.txt", b"fine")]


def only_bad(source: Path, **options: str) -> Bad:
    """Reads the source: the one good pair "ok" must survive, and one Bad is returned."""
    outcomes = read_all(open_dataset(source, **options))
    bad = [outcome for outcome in outcomes if isinstance(outcome, Bad)]
    assert [o.key for o in outcomes if isinstance(o, Sample)] == ["ok"]
    assert len(bad) == 1, bad
    return bad[0]


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


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "GNUTYPE_SPARSE"])
def test_links_and_devices_in_a_tar_are_refused(kind: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        add(tar, "k.jpg", b"", type=getattr(tarfile, kind), linkname="/etc/passwd")
        add(tar, "k.txt", b"x")
        for name, data in PAIR:
            add(tar, name, data)
    assert "only plain files are read" in only_bad(tmp_path / "t.tar").reason


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "line\nbreak\t\x1b[31m", "\udcff\udcfe"]
)
def test_an_evil_member_name_is_only_a_key(name: str, tmp_path: Path) -> None:
    tar = make_tar(
        tmp_path / "t.tar",
        [(f"{name}.jpg", JPEG), (f"{name}.txt", b"x"), *PAIR],
        format=tarfile.GNU_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    )
    samples = read_all(open_dataset(tar))
    assert len(samples) == 2
    key = samples[0].key
    assert key.encode("utf-8").decode() == key
    assert all(char.isprintable() for char in key)


def test_a_declared_size_beyond_the_file_is_not_allocated(tmp_path: Path) -> None:
    for size in (200 << 20, 1 << 40, 8**11 - 1):
        info = tarfile.TarInfo("k.jpg")
        info.size = size
        tar = make_tar(tmp_path / "t.tar", PAIR)
        data = tar.read_bytes()[: 4 * 512]  # both members, without the end mark
        tar.write_bytes(data + info.tobuf(tarfile.GNU_FORMAT) + b"\xff" * 512)
        tracemalloc.start()
        bad = only_bad(tar)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert bad.key == "k"
        assert "ends inside member" in bad.reason
        assert peak < 20 << 20


def test_a_negative_size_ends_the_tar_and_does_not_loop(tmp_path: Path) -> None:
    info = tarfile.TarInfo("k.jpg")
    info.size = -512
    tar = make_tar(tmp_path / "t.tar", PAIR)
    tar.write_bytes(tar.read_bytes()[: 4 * 512] + info.tobuf(tarfile.GNU_FORMAT))
    assert "negative size" in only_bad(tar).reason


def extended(kind: bytes, data: bytes) -> bytes:
    info = tarfile.TarInfo("header")
    info.type = kind
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


BOMBS = {
    "huge pax header": (extended(tarfile.XHDTYPE, b"9" * (2 << 20)), "extended header of 2,097,152 bytes"),
    "huge GNU name": (extended(tarfile.GNUTYPE_LONGNAME, b"a" * (2 << 20)), "extended header of"),
    "chain of pax headers": (extended(tarfile.XHDTYPE, b"11 path=ab\n") * 5000, "extended headers in a row"),
    "global rename": (extended(tarfile.XGLTYPE, b"14 path=a.jpg\n"), "global pax header"),
    "malformed pax": (extended(tarfile.XHDTYPE, b"999999999 path=ab\n"), "malformed"),
    "pax size": (extended(tarfile.XHDTYPE, b"20 size=-1000000000\n"), "declares the size"),
    "garbage": (b"\xff" * 1024, "no tar header"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_header_bomb_ends_the_shard_with_a_reason(bomb: str, tmp_path: Path) -> None:
    blocks, reason = BOMBS[bomb]
    tar = make_tar(tmp_path / "t.tar", PAIR)
    tail = make_tar(tmp_path / "tail.tar", [("k.jpg", JPEG), ("k.txt", b"x")]).read_bytes()
    tar.write_bytes(tar.read_bytes()[: 4 * 512] + blocks + tail)
    assert reason in only_bad(tar).reason


def test_long_names_and_pax_headers_of_every_dialect_are_read(tmp_path: Path) -> None:
    key = "a" * 150 + "/" + "ü" * 120
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        members = [(f"{key}.jpg", JPEG), (f"{key}.txt", b"x"), *PAIR]
        dataset = open_dataset(make_tar(tmp_path / f"{format}.tar", members, format=format))
        samples = read_all(dataset)
        assert [s.key for s in samples] == [key, "ok"]
        assert list(dataset.fetch(dataset.shards[0], {s.key: s.at for s in samples})) == samples


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_tar_keeps_what_came_before(packed: bool, tmp_path: Path) -> None:
    tar = (write_tar_gz if packed else write_tar)(ten_samples(), tmp_path)
    whole = tar.read_bytes()
    most = 0
    for size in range(1, len(whole) - 1, 97 if packed else 509):
        tar.write_bytes(whole[:size])
        outcomes = read_all(open_dataset(tar))
        samples = [o for o in outcomes if isinstance(o, Sample)]
        bad = [o for o in outcomes if isinstance(o, Bad)]
        assert [s.image for s in samples] == [s.image for s in ten_samples()[: len(samples)]]
        assert len(bad) == 1 or (
            len(bad) == 0 and len(samples) == 10
        )  # only padding after the end mark is cut
        assert most <= len(samples)
        most = len(samples)
    assert most == 10


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty (0 bytes)"),
        (b"\0" * 10240, "holds no samples"),
        (b"not a tar at all" * 100, "no tar header at byte 0"),
        (b"\x1f\x8b" + b"garbage" * 100, "cannot"),
        (b"BZh9" + b"garbage" * 100, "repack it"),
        (b"x", "truncated header"),
    ],
)
def test_a_file_that_is_no_tar_is_one_bad_and_the_others_go_on(
    data: bytes, reason: str, tmp_path: Path
) -> None:
    make_tar(tmp_path / "a.tar", PAIR)
    put(tmp_path / "b.tar", data)
    bad = only_bad(tmp_path)
    assert (bad.shard, bad.key) == ("b.tar", "")
    assert reason in bad.reason


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


def test_what_follows_the_end_mark_is_said(tmp_path: Path) -> None:
    first = make_tar(tmp_path / "t.tar", PAIR)
    second = make_tar(tmp_path / "2.tar", [("b.jpg", JPEG), ("b.txt", b"x")]).read_bytes()
    alone = first.read_bytes()
    first.write_bytes(alone + second)
    assert "follows the end mark" in only_bad(first).reason
    first.write_bytes(alone + bytes(1 << 20))  # tar -b 2048 pads to this
    assert [o.key for o in read_all(open_dataset(first))] == ["ok"]
    first.write_bytes(alone + bytes(9 << 20) + second)
    assert "zeros follow the end mark" in only_bad(first).reason


def test_a_picture_folder_reads_nothing_outside_itself(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    put(tmp_path / "secret.txt", b"the secret")
    put(tmp_path / "secret.jpg", JPEG)
    for name, data in PAIR:
        put(folder / name, data)
    put(folder / "a.jpg", JPEG)
    os.symlink("../secret.txt", folder / "a.txt")
    os.symlink("../secret.jpg", folder / "b.jpg")
    put(folder / "b.txt", b"x")
    os.symlink("ok.jpg", folder / "c.jpg")  # stays inside: fine
    put(folder / "c.txt", b"x")
    os.mkfifo(folder / "d.txt")
    put(folder / "d.jpg", JPEG)
    os.symlink("..", folder / "up")
    dataset = open_dataset(folder)
    outcomes = {outcome.key: outcome for outcome in read_all(dataset)}
    assert sorted(outcomes) == ["a", "b", "c", "d", "ok"]
    assert "leads out" in outcomes["a"].reason
    assert "leads out" in outcomes["b"].reason
    assert isinstance(outcomes["c"], Sample)
    assert "not a regular file" in outcomes["d"].reason
    assert "passed over" in dataset.describe()


def test_metadata_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "x.jpg", JPEG)
    put(tmp_path / "set" / "ok.jpg", JPEG)
    names = [
        "../x.jpg",
        str(tmp_path / "x.jpg"),
        "sub/../../x.jpg",
        "..\\x.jpg",
        "",
        7,
        "no.jpg",
        "n\0.jpg",
        "ok.jpg",
    ]
    lines = [json.dumps({"file_name": name, "text": "fine"}) for name in names]
    put(tmp_path / "set" / "metadata.jsonl", "\n".join([*lines, "[", "[" * 99_999]).encode())
    outcomes = read_all(open_dataset(tmp_path / "set"))
    assert [o.key for o in outcomes if isinstance(o, Sample)] == ["ok"]
    reasons = [o.reason for o in outcomes if isinstance(o, Bad)]
    assert len(reasons) == 10
    assert sum("outside its folder: refused" in r for r in reasons) == 4
    assert sum("names no file" in r for r in reasons) == 2
    assert sum("cannot read 'no.jpg'" in r for r in reasons) == 1
    assert sum("not JSON" in r or "nested" in r for r in reasons) == 2


def test_csv_names_nothing_outside_its_folder(tmp_path: Path) -> None:
    put(tmp_path / "x.jpg", JPEG)
    put(tmp_path / "set" / "ok.jpg", JPEG)
    names = ["../x.jpg", str(tmp_path / "x.jpg"), "", "/dev/zero", str(tmp_path / "set" / "ok.jpg")]
    put(tmp_path / "set" / "t.csv", "\n".join(["filepath,title", *(f"{n},fine" for n in names)]).encode())
    outcomes = read_all(open_dataset(tmp_path / "set"))
    assert [type(o) for o in outcomes] == [Bad, Bad, Bad, Bad, Sample]
    assert "row 2 names no picture" in outcomes[2].reason


def test_a_spoilt_csv_row_is_bad_and_the_next_one_is_not(tmp_path: Path) -> None:
    put(tmp_path / "ok.jpg", JPEG)
    rows = [b"ok.jpg,caf\xe9", b"ok.jpg", b"", b'ok.jpg,"' + b"x" * 200_000 + b'"', b"ok.jpg,fine"]
    put(tmp_path / "t.csv", b"filepath,title\n" + b"\n".join(rows))
    outcomes = read_all(open_dataset(tmp_path / "t.csv"))
    assert [type(o) for o in outcomes] == [Bad, Bad, Bad, Sample]
    assert "not valid Unicode" in outcomes[0].reason
    assert "caption is missing" in outcomes[1].reason
    assert "not valid csv" in outcomes[2].reason


def test_an_endless_csv_line_is_not_read_into_memory(tmp_path: Path) -> None:
    put(tmp_path / "ok.jpg", JPEG)
    put(tmp_path / "t.csv", b"filepath,title\nok.jpg,fine\n" + bytes(30 << 20))
    assert "more than" in only_bad(tmp_path / "t.csv").reason


def test_undecodable_file_names_survive_in_escaped_form(tmp_path: Path) -> None:
    put(tmp_path / "ok.jpg", JPEG)
    put(tmp_path / "ok.txt", b"fine")
    for ending in (b".jpg", b".txt"):
        with open(os.fsencode(tmp_path) + b"/caf\xe9" + ending, "wb") as out:
            out.write(JPEG if ending == b".jpg" else b"fine")
    samples = good(open_dataset(tmp_path))
    assert [s.key for s in samples] == [r"caf\xe9", "ok"]


def test_two_pictures_of_one_name_are_one_sample_and_one_bad(tmp_path: Path) -> None:
    for name in ("ok.jpg", "ok.png"):
        put(tmp_path / name, JPEG)
    put(tmp_path / "ok.txt", b"fine")
    assert "same key" in only_bad(tmp_path).reason


def test_spoilt_parquet_rows_are_bad_with_their_reason(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [
        None,
        {"bytes": b""},
        {"path": "/etc/passwd"},
        {"bytes": JPEG},
        {"bytes": JPEG},
        {"bytes": JPEG},
    ]
    captions = pa.array([b"x", b"x", b"x", None, b"caf\xe9", b"fine"]).cast(pa.binary())
    captions = pa.Array.from_buffers(pa.string(), 6, captions.buffers())  # an invalid string column
    rows = pa.table(
        {"image": pa.array(images, kind), "text": captions, "id": ["a", "b", "c", "d", "e", "ok"]}
    )
    pq.write_table(rows, tmp_path / "t.parquet")
    outcomes = read_all(open_dataset(tmp_path / "t.parquet"))
    assert [o.key for o in outcomes] == ["a", "b", "c", "d", "e", "ok"]
    assert isinstance(outcomes[5], Sample)
    reasons = [o.reason for o in outcomes[:5]]
    wanted = ["picture is missing", "0 bytes", "such files are not read", "caption is missing", "not UTF-8"]
    assert all(want in reason for want, reason in zip(wanted, reasons, strict=True)), reasons


def test_a_broken_parquet_file_is_one_bad(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [JPEG], "text": ["fine"], "key": ["ok"]}), tmp_path / "a.parquet")
    put(tmp_path / "b.parquet", b"PAR1" + bytes(100) + b"PAR1")
    bad = only_bad(tmp_path)
    assert (bad.shard, bad.key) == ("b.parquet", "")


def test_parquet_without_captions_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [JPEG], "label": [3]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"label \(int64\).*--text-key"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([{"evil": 1}], dtype=object), "bject"),
        (np.zeros(3), "of shape"),
        (np.zeros((3, 3), int), "int64"),
        (np.zeros((3, 3), complex), "complex128"),
    ],
)
def test_arrays_that_are_no_embeddings_are_refused(array: np.ndarray, reason: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", l14_img=array)
    for source in ("a.npy", "a.npz"):
        dataset = open_dataset(tmp_path / source)
        with pytest.raises(DataError, match=reason):
            dataset.vectors(dataset.shards[0])


def test_an_array_that_declares_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 8)}
    )
    put(tmp_path / "a.npy", header.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("l14_img.npy", header.getvalue() + bytes(64))
    for source in ("a.npy", "b.npz"):
        dataset = open_dataset(tmp_path / source)
        with pytest.raises(DataError, match="cannot read"):
            dataset.vectors(dataset.shards[0])


def test_embeddings_of_uneven_length_do_not_pair(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 2), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((4, 2), np.float32))
    dataset = open_dataset(tmp_path / "a.npy", text_key="b.npy")
    with pytest.raises(DataError, match="3 rows"):
        dataset.vectors(dataset.shards[0])
    vectors = pa.array([[1.0, 2.0], [1.0], None])
    pq.write_table(pa.table({"embedding": vectors}), tmp_path / "t.parquet")
    sample, short, missing = read_all(open_dataset(tmp_path / "t.parquet"))
    assert isinstance(sample, Sample) and isinstance(short, Bad) and isinstance(missing, Bad)
    assert "is of width 1, others of width 2 (row 1)" in short.reason
    assert "is missing (row 2)" in missing.reason


def test_a_tar_of_many_pictures_is_streamed(tmp_path: Path) -> None:
    members = (
        (f"{i:05d}.{ext}", data) for i in range(300) for ext, data in (("jpg", bytes(100_000)), ("txt", b"x"))
    )
    dataset = open_dataset(make_tar(tmp_path / "t.tar", members))
    tracemalloc.start()
    count = sum(1 for _ in dataset.read(dataset.shards[0]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 300
    assert peak < 2 << 20  # of 30 MB


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=12)), max_size=6))
@pytest.mark.parametrize(
    "write", [write_tar, write_tar_gz, write_hf_parquet, write_csv, write_metadata_jsonl]
)
def test_no_flipped_bytes_raise(write, flips: list[tuple[int, bytes]], tmp_path: Path) -> None:
    """Tar, gzip, parquet and tables with bytes overwritten read to an end, or are refused whole."""
    base = tmp_path / "whole"
    if not base.exists():
        write(ten_samples(), base)
    folder = tmp_path / "flipped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    victim = next(p for p in sorted(folder.iterdir()) if p.is_file() and p.suffix != ".jpg")
    data = bytearray(victim.read_bytes())
    for at, new in flips:
        at %= len(data)
        data[at : at + len(new)] = new
    victim.write_bytes(data)
    try:
        outcomes = read_all(open_dataset(folder))
    except DataError:
        return
    assert all(outcome.reason for outcome in outcomes if isinstance(outcome, Bad))
