"""Tars that are broken, or built to break a reader, end with samples and reasons, never with an exception."""

from __future__ import annotations

import tarfile
import tracemalloc
from pathlib import Path

import pytest
from data_helpers import JPEG, PAIR, add, make_tar, only_bad, put, read_all, ten_samples
from layouts import write_tar, write_tar_gz

from clipscan.data import Bad, Sample, open_dataset


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
