"""A scan of a hostile dataset: every bad sample is listed with its reason, what is passed over is counted."""

import io
import json
import struct
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest
from run_helpers import checkpoint  # noqa: F401
from scan_helpers import pairs, picture, scan, tars, write_tar

import clipscan
import clipscan.pipeline
from clipscan.run import Run
from clipscan.run.progress import Lines

pytest.importorskip("torch", reason="needs clipscan[embed]")


def png_header(width, height):
    """A PNG that claims a size and holds nothing."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def run_with_nothing_dropped(out):
    clipscan.pipeline.export(Run(out), threshold=1e300)
    return out


def test_a_hostile_dataset_is_scanned_and_every_bad_sample_is_listed_with_its_reason(tmp_path, checkpoint):
    data = tars(tmp_path / "data", per_shard=15)  # in all fewer than the page shows
    rng = np.random.default_rng(1)
    write_tar(
        data / "00004.tar",
        [
            *pairs(rng, 0, 10),  # the keys of another tar again: other samples
            ("zero.jpg", b""), ("zero.txt", b"an empty picture"),
            ("text.jpg", b"not a picture at all"), ("text.txt", b"text named .jpg"),
            ("bomb.png", png_header(30_000, 30_000)), ("bomb.txt", b"thirty thousand squared"),
            ("mute.png", picture(rng)),
            ("latin.png", picture(rng)), ("latin.txt", "caf\xe9".encode("latin-1")),
            ("script.png", picture(rng)), ("script.txt", b"<script>alert(1)</script>"),
            ("half.jpg", picture(rng, "JPEG", 64)[:300]), ("half.txt", b"cut off"),
        ],
    )  # fmt: skip
    whole = tmp_path / "whole.tar"
    write_tar(whole, pairs(rng, 500, 20))
    (data / "00005.tar").write_bytes(whole.read_bytes()[:20_000])
    (data / "00006.tar").write_bytes(b"")
    (data / "00007.tar").write_bytes(b"garbage" * 1000)

    done = scan(data, tmp_path / "run", checkpoint, fraction=1.0)
    bad = {(row["shard"], row["key"]): row["reason"] for row in done.table("bad").to_pylist()}
    for key, word in {
        "zero": "empty", "text": "", "bomb": "30000 x 30000", "mute": "caption", "latin": "UTF-8", "half": "",
    }.items():  # fmt: skip
        assert word in bad["00004.tar", key], (key, bad)
    assert all(any(shard == f"0000{n}.tar" for shard, _ in bad) for n in (5, 7)), bad
    c = done.counts
    assert c["listed"] == c["embedded"] + c["bad"] and c["embedded"] == c["kept"] + c["dropped"]
    found = {(row["shard"], row["key"]) for row in done.table().to_pylist()}
    assert {("00000.tar", "00003"), ("00004.tar", "00003"), ("00004.tar", "script")} <= found
    assert not found & set(bad)
    clean = clipscan.pipeline.apply(Run(run_with_nothing_dropped(done.out)), tmp_path / "clean")
    again = scan(tmp_path / "clean", tmp_path / "again", checkpoint)
    left = again.table("bad").to_pylist()
    assert [row["reason"] for row in left] == ["the tar holds no samples"], "what was garbage is an empty tar"
    assert again.counts["embedded"] == clean.kept == c["embedded"]
    page = done.page.read_text()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page


def test_zero_samples_is_an_error_that_says_what_was_found(tmp_path, checkpoint):
    data = tmp_path / "data"
    data.mkdir()
    write_tar(data / "0.tar", [("a.jpg", b"x"), ("a.txt", b"words")])
    with pytest.raises(clipscan.DataError, match="not one readable sample. 1 were refused: 1 x"):
        scan(data, tmp_path / "run", checkpoint)
    assert pq.read_table(tmp_path / "run/bad.parquet").num_rows == 1


def test_refusals_of_one_kind_are_counted_together_whatever_names_they_quote(tmp_path, checkpoint):
    (tmp_path / "data").mkdir()
    members = [(f"{i}.jpg", b"") for i in range(3)] + [(f"{i}.txt", b"words") for i in range(3)]
    write_tar(
        tmp_path / "data/0.tar", [m for i in range(3) for m in (members[i], members[i], members[i + 3])]
    )
    with pytest.raises(clipscan.DataError, match="3 were refused: 3 x member '0.jpg' comes twice"):
        scan(tmp_path / "data", tmp_path / "run", checkpoint)


def test_members_that_no_sample_has_are_counted_and_said_also_by_a_run_that_resumes(tmp_path, checkpoint):
    data = tars(tmp_path / "data")
    write_tar(data / "00009.tar", [("README.md", b"1"), ("a.mp4", b"1"), ("b.mp4", b"1")])
    for _ in range(2):
        lines = io.StringIO()
        done = scan(data, tmp_path / "run", checkpoint, progress=Lines(lines))
        assert "passed over, and kept by apply: in tars 2 .mp4, 1 .md" in lines.getvalue()
    assert json.loads((done.out / "run.json").read_text())["passed_over"] == {
        "members": [["md", 1], ["mp4", 2]], "files": [],
    }  # fmt: skip


def test_a_run_is_opened_again_with_the_roots_and_the_quoting_it_was_made_with(tmp_path, checkpoint):
    (tmp_path / "set").mkdir()
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = ["filepath,title"]
    for i in range(30):
        (tmp_path / f"images/{i}.png").write_bytes(picture(rng))
        rows.append(f'{tmp_path}/images/{i}.png,"a screen of {i}')
    (tmp_path / "set/t.csv").write_text("\n".join(rows))
    done = scan(tmp_path / "set", tmp_path / "run", checkpoint, roots=[tmp_path / "images"], quoting="none")
    assert (done.counts["embedded"], done.counts["bad"]) == (30, 0)
    counts = clipscan.pipeline.apply(Run(run_with_nothing_dropped(done.out)), tmp_path / "clean")
    assert (counts.kept, counts.bad) == (30, 0)
    assert (tmp_path / "clean/t.csv").read_bytes() == (tmp_path / "set/t.csv").read_bytes()
    with pytest.raises(clipscan.DataError, match="30 x .* leads out .* --root DIR"):
        scan(tmp_path / "set", tmp_path / "closed", checkpoint, quoting="none")
