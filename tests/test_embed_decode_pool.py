"""Decoding: what open_clip would see, within limits, in processes that may die."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipscan.data.sample import Bad, Sample
from clipscan.embed import pixels
from clipscan.embed.decode_pool import CHUNK_SAMPLES, DecodePool, decode_all
from clipscan.embed.pixels import PixelSpec
from clipscan.embed.process import search_path
from clipscan.errors import ClipscanError

SPEC = PixelSpec(32)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def sample(image: bytes | None, key: str = "a") -> Sample:
    return Sample("00000.tar", key, image, "a caption")


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more than it holds; 60 bytes or so."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 64)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (body, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


ROTATED = Image.Exif()
ROTATED[0x0112] = 6  # orientation: turn by 90 degrees

KINDS = {
    "photograph": encoded(noise(61, 47), "JPEG", quality=80),
    "tall": encoded(noise(33, 90)),
    "tiny": encoded(noise(3, 5)),
    "exact": encoded(noise(32, 32)),
    "grey": encoded(noise(40, 50).convert("L")),
    "black and white": encoded(noise(40, 50).convert("1")),
    "palette": encoded(noise(50, 40).quantize(16)),
    "palette, transparent": encoded(noise(50, 40).quantize(16), transparency=3),
    "alpha": encoded(Image.merge("RGBA", [*noise(50, 40).split(), noise(50, 40, 1).convert("L")])),
    "grey, alpha": encoded(noise(50, 40).convert("LA")),
    "CMYK": encoded(noise(50, 40).convert("CMYK"), "JPEG"),
    "rotated by EXIF": encoded(noise(50, 40), "JPEG", exif=ROTATED),
    "animation": encoded(
        noise(50, 40).quantize(16), "GIF", save_all=True, append_images=[noise(50, 40, 2).quantize(16)]
    ),
    "webp": encoded(noise(50, 40), "WEBP"),
    "bmp": encoded(noise(50, 40), "BMP"),
    "tiff": encoded(noise(50, 40), "TIFF"),
}


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(mode, interpolation):
    from clipscan.embed.open_clip import import_open_clip

    transform = import_open_clip().transform
    cfg = transform.PreprocessCfg(size=32, resize_mode=mode, interpolation=interpolation, fill_color=9)
    theirs = transform.image_transform_v2(cfg, is_train=False)
    del theirs.transforms[-1]  # normalisation, which happens on the device here
    for kind, data in KINDS.items():
        expected = (theirs(Image.open(io.BytesIO(data))).numpy() * 255).round().astype(np.uint8)
        ours = pixels.decode(data, PixelSpec(32, mode, interpolation, 9))
        assert ours == expected.transpose(1, 2, 0).tobytes(), kind


def test_sixteen_bit_grey_is_not_turned_white():
    ramp = np.linspace(0, 65535, 32).astype(np.uint16)[None].repeat(32, 0)
    row = np.frombuffer(pixels.decode(encoded(Image.fromarray(ramp)), SPEC), np.uint8).reshape(32, 32, 3)[
        0, :, 0
    ]
    assert (row == ramp[0] >> 8).all()


def test_order_is_kept_and_every_bad_picture_has_its_reason():
    jpeg = KINDS["photograph"]
    given = {
        "good": jpeg,
        "missing": None,
        "empty": b"",
        "text.jpg": b"<html>404 not found</html>",
        "truncated": jpeg[: len(jpeg) // 2],
        "bomb": png_header(30_000, 30_000),
        "strip": encoded(Image.new("L", (1, 3_000_000))),
        "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage",
        "heavy": b"\xff\xd8" + b"x" * 2_000_000,
        "last": jpeg,
    }
    spec = PixelSpec(32, max_bytes=1_000_000)
    before = Bad("00000.tar", "before", "told by the reader")
    started = time.monotonic()
    with DecodePool(2) as pool:
        samples = [before, *(sample(data, key) for key, data in given.items())]
        found = list(decode_all(samples, spec, pool))
    assert time.monotonic() - started < 20  # the 900 million pixels were never made
    assert found[0] is before
    reasons = {one.key: one.reason for one in found[1:] if isinstance(one, Bad)}
    keys = [one.key if isinstance(one, Bad) else one[0].key for one in found[1:]]
    assert keys == list(given)
    assert set(given) - set(reasons) == {"good", "last"}
    assert "30000 x 30000" in reasons["bomb"]
    assert "scaled to" in reasons["strip"]
    assert "not a picture" in reasons["text.jpg"] and "not a picture" in reasons["script"]
    assert "0 bytes" in reasons["empty"] and "limit is 1,000,000" in reasons["heavy"]
    assert "truncated" in reasons["truncated"].lower()
    (_, first), (_, last) = (one for one in found[1:] if not isinstance(one, Bad))
    assert first.shape == (32, 32, 3) and first.dtype == np.uint8 and (first == last).all()


HOSTILE = """
import os, signal, struct, sys, time
sys.path.insert(0, {folder!r})
import pixels
decode = pixels.decode
def hostile(data, spec):
    if data.startswith(b"DIE"): os.kill(os.getpid(), signal.SIGSEGV)
    if data.startswith(b"HANG"): time.sleep(60)
    return decode(data, spec)
pixels.decode = hostile
answer = pixels.answer
def lying(data, spec):
    if data.startswith(b"SHORT"): return struct.pack("<BI", 0, 9) + bytes(9)
    if data.startswith(b"LONG"): return struct.pack("<BI", 1, 0xFFFFFFFF)
    return answer(data, spec)
pixels.answer = lying
pixels.main()
"""


@pytest.fixture
def hostile_decoder(tmp_path, monkeypatch):
    """A decoder that a picture beginning with DIE crashes, and HANG stops."""
    script = tmp_path / "hostile.py"
    (tmp_path / "pixels.py").write_bytes(Path(pixels.__file__).read_bytes())
    script.write_text(HOSTILE.format(folder=str(tmp_path)))
    monkeypatch.setattr(pixels, "__file__", str(script))


def test_a_decoder_that_dies_or_hangs_costs_one_picture(hostile_decoder):
    good = KINDS["exact"]
    images = [good, b"DIE", good, b"HANG", good, b"DIE", b"DIE"] + [good] * CHUNK_SAMPLES + [b"DIE"]
    with DecodePool(1, time_limit=1.0) as pool:
        found = list(decode_all([sample(image, str(i)) for i, image in enumerate(images)], SPEC, pool))
    reasons = {int(one.key): one.reason for one in found if isinstance(one, Bad)}
    assert list(reasons) == [i for i, image in enumerate(images) if image is not good]
    assert reasons[1] == "its decoder was killed by signal 11"
    assert reasons[3] == "its decoder took longer than 1 s"


def test_a_decoder_that_somebody_took_over_cannot_fill_our_memory(hostile_decoder):
    images = [KINDS["exact"], b"SHORT", KINDS["exact"], b"LONG", KINDS["exact"]]
    with DecodePool(1) as pool:
        found = list(decode_all([sample(image, str(i)) for i, image in enumerate(images)], SPEC, pool))
    reasons = {one.key: one.reason for one in found if isinstance(one, Bad)}
    assert reasons == dict.fromkeys("13", "its decoder answered out of turn")


def test_pixels_larger_than_a_pipe_arrive_whole():
    spec = PixelSpec(700)  # 1.4 MB
    data = encoded(noise(750, 720))
    with DecodePool(1) as pool:
        found = list(decode_all([sample(data)] * 3, spec, pool))
    assert all(picture.tobytes() == pixels.decode(data, spec) for _, picture in found)


def test_a_decoder_that_cannot_start_is_an_error_and_no_bad_picture(tmp_path, monkeypatch):
    broken = tmp_path / "broken.py"
    broken.write_text("raise ImportError('Pillow is broken')")
    monkeypatch.setattr(pixels, "__file__", str(broken))
    with DecodePool(1) as pool, pytest.raises(ClipscanError, match="Pillow is broken"):
        list(decode_all([sample(KINDS["exact"])], SPEC, pool))


def test_a_reader_is_not_drained_ahead_of_its_consumer():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield sample(KINDS["exact"])

    with DecodePool(1) as pool:
        stream = decode_all(endless(), SPEC, pool)
        next(stream)
        assert taken <= (pool.depth + 1) * CHUNK_SAMPLES


def test_pictures_are_decoded_without_torch():
    code = (
        "import sys, clipscan.embed.decode_pool; "
        "assert not {'torch', 'open_clip', 'torchvision'} & set(sys.modules), 'torch came along'"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


HERE = """
import io
from PIL import Image
from clipscan.data.sample import Sample
from clipscan.embed.decode_pool import DecodePool, decode_all
from clipscan.embed.pixels import PixelSpec
file = io.BytesIO()
Image.new("RGB", (50, 40)).save(file, "JPEG")
with DecodePool(1) as pool:
    (_, pixels), = decode_all([Sample("a.tar", "a", file.getvalue(), "")], PixelSpec(32), pool)
assert pixels.shape == (32, 32, 3)
"""


def test_a_decoder_finds_the_clipscan_that_was_found_in_the_working_directory():
    packages = Path(pixels.__file__).parents[2]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", HERE], cwd=packages, env=alone, check=True)
    assert search_path(["", "/usr/lib"]) == [str(packages), "/usr/lib"]
    assert search_path(["/usr/lib", str(packages)]) == ["/usr/lib", str(packages)]
