"""Pictures of strangers: made small in a worker that may die, hang or lie."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from clipscan.report.album import FULL, Want, make_album
from clipscan.report.thumbnails import Thumbnail, Thumbnailer

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'clipscan[embed]'")


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def decoded(thumbnail: Thumbnail) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(thumbnail.uri.split(",", 1)[1]))))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def worker():
    with Thumbnailer() as one:
        yield one


def test_small_pictures_lose_nothing(worker: Thumbnailer) -> None:
    pixels = noise(64, 48)
    thumbnail = worker.make(encoded(pixels), 160)
    assert np.array_equal(decoded(thumbnail), pixels)
    assert (thumbnail.width, thumbnail.height, thumbnail.small) == (48, 64, True)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_large_pictures_keep_their_proportions(worker: Thumbnailer, kind: str) -> None:
    thumbnail = worker.make(encoded(noise(400, 800), kind), 160)
    assert thumbnail.uri.startswith("data:image/jpeg;base64,")
    assert decoded(thumbnail).shape == (80, 160, 3)
    assert (thumbnail.width, thumbnail.height, thumbnail.small) == (160, 80, False)


def test_pictures_of_the_review_are_webp_and_small_ones_lose_nothing(worker: Thumbnailer) -> None:
    pixels = noise(64, 48)
    exact, large = worker.make(encoded(pixels), 160, 85), worker.make(encoded(noise(400, 800)), 160, 80)
    assert exact.uri.startswith("data:image/webp;base64,") and np.array_equal(decoded(exact), pixels)
    assert large.uri.startswith("data:image/webp;base64,") and decoded(large).shape == (80, 160, 3)
    assert [(one.width, one.height) for one in (exact, large)] == [(48, 64), (160, 80)]


def test_a_small_trigger_stays_visible(worker: Thumbnailer) -> None:
    pixels = np.full((224, 224, 3), 90, np.uint8)
    pixels[200:216:2, 200:216:2] = 255  # the patch of BadNets, 16 pixels wide
    small = decoded(worker.make(encoded(pixels), 160)).astype(int)
    assert small[143:154, 143:154].mean() - small[:100, :100].mean() > 25


def test_sixteen_bit_grey_is_shown_as_the_encoder_sees_it(worker: Thumbnailer) -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) << 8
    assert np.array_equal(decoded(worker.make(encoded(grey), 160))[..., 0], grey >> 8)


def test_what_a_picture_carries_beside_its_pixels_is_left_behind(worker: Thumbnailer) -> None:
    options = {"icc_profile": b"SECRET-PROFILE" * 9, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}
    for pixels in (noise(40, 40), noise(300, 300)):
        for kind in ("PNG", "JPEG"):
            answer = base64.b64decode(worker.make(encoded(pixels, kind, **options), 160).uri.split(",", 1)[1])
            assert b"SECRET" not in answer
            assert b"Exif" not in answer


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a picture"),
        (b"GIF89a", "not a picture|truncated"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture"),
        (encoded(noise(300, 300), "JPEG")[:900], "truncated"),
    ],
)
def test_what_is_no_picture_has_a_reason(worker: Thumbnailer, data: bytes, words: str) -> None:
    import re

    thumbnail = worker.make(data, 160)
    assert not thumbnail.uri
    assert re.search(words, thumbnail.reason)


def test_a_bomb_is_refused_by_its_header(worker: Thumbnailer) -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bomb += b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    assert "30000 x 30000 pixels" in worker.make(bomb, 160).reason


def fake_worker(folder: Path, body: str) -> Path:
    path = folder / "worker.py"
    path.write_text(f"import os, struct, sys, time\nwhile sys.stdin.buffer.read(8):\n    {body}\n")
    return path


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.abort()", "crashed"),
        ("time.sleep(60)", "took over 0.5 s"),
        ("os.write(1, struct.pack('<BI', 0, 9) + b'<script/>')", "something else than a picture"),
        ("os.write(1, struct.pack('<BI', 0, 2**31))", "crashed"),
        ("os.write(1, struct.pack('<BI', 0, 5) + b'\\xff\\xd8\\xff\\xe0\\0')", "something else"),
    ],
)
def test_a_worker_that_dies_hangs_or_lies_costs_one_picture(tmp_path: Path, body: str, words: str) -> None:
    with Thumbnailer(worker=fake_worker(tmp_path, body), seconds=0.5) as one:
        for _ in range(2):
            thumbnail = one.make(b"", 160)
            assert not thumbnail.uri
            assert words in thumbnail.reason


def test_a_worker_that_dies_while_it_is_sent_a_picture_costs_that_one(tmp_path: Path) -> None:
    with Thumbnailer(worker=fake_worker(tmp_path, "os.abort()")) as one:
        assert "crashed" in one.make(b"x" * 1_000_000, 160).reason


def test_after_a_death_the_next_picture_is_made(worker: Thumbnailer) -> None:
    worker.make(encoded(noise(8, 8)), 160)
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    assert worker.make(encoded(noise(8, 8)), 160).uri


def test_beyond_the_budget_the_least_important_pictures_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from report_helpers import InMemory, png

    from clipscan.data.sample import Sample
    from clipscan.report import album

    samples = [Sample("s", f"k{i}", png((i, 0, 0)), "") for i in range(6)]
    wants = [Want("s", f"k{i}", i, 160) for i in (5, 0, 3, 1)]
    whole = make_album(InMemory(samples), wants)
    assert all(thumbnail.uri for thumbnail in whole.values())
    monkeypatch.setattr(album, "MAX_URI_BYTES", sum(len(whole[want].uri) for want in wants[:2]))
    cut = make_album(InMemory(samples), wants)
    assert [cut[want] == FULL for want in wants] == [False, False, True, True]
