"""Scaling by our own core: Pillow's bytes, for less."""

import io

import numpy as np
import pytest
from PIL import Image

from clipscan import _core
from clipscan.embed import pixels
from clipscan.embed.pixels import PixelSpec

SIZES = [  # width, height
    (256, 256), (341, 256), (256, 341), (480, 360), (97, 97), (224, 225), (225, 224), (226, 224),
    (1, 1), (1, 2), (2, 1), (3, 5), (17, 16), (16, 17), (31, 33), (33, 31), (1000, 3), (64, 127),
]  # fmt: skip


def drawn(width: int, height: int, mode: str = "RGB", *, extreme: bool = False) -> Image.Image:
    """Noise. `extreme`: of 0 and 255, where bicubic leaves 0..255 and is clipped."""
    rng = np.random.default_rng(width * 1009 + height)
    levels = rng.integers(0, 256, (height, width, 3))
    levels = levels // 128 * 255 if extreme else levels
    return Image.fromarray(levels.astype(np.uint8)).convert(mode)


def encoded(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def by_pillow(picture: Image.Image, spec: PixelSpec) -> bytes:
    resample = Image.Resampling.BILINEAR if spec.interpolation == "bilinear" else Image.Resampling.BICUBIC
    scaled = picture.resize(pixels.scaled(picture.size, spec), resample)
    return pixels.centred(scaled, spec).convert("RGB").tobytes()


def ours(picture: Image.Image, spec: PixelSpec) -> bytes | None:
    return pixels.middle(picture, pixels.scaled(picture.size, spec), spec)


@pytest.fixture(params=_core.resample_instruction_sets())
def instruction_set(request, monkeypatch):
    """Every scaling of a test by this one."""

    class Core:
        @staticmethod
        def resample(*arguments):
            return _core.resample(*arguments, request.param)

    monkeypatch.setattr(pixels, "_core", Core)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [1, 7, 32, 64, 224])
def test_scaled_pixels_are_pillows_to_the_bit(instruction_set, interpolation, size):
    served = 0
    for mode in ("shortest", "squash", "longest"):
        spec = PixelSpec(size, mode, interpolation)
        for across, down in SIZES:
            noise = drawn(across, down)
            if max(pixels.scaled(noise.size, spec)) > 5_000:
                continue
            for picture in (noise, drawn(across, down, extreme=True), noise.convert("L")):
                if (found := ours(picture, spec)) is not None:
                    served += 1
                    assert found == by_pillow(picture, spec), (mode, across, down, picture.mode)
    assert served > 60


def test_web_pictures_are_served(instruction_set):
    for across, down in ((256, 256), (341, 256), (256, 341), (336, 336), (480, 360), (360, 480), (640, 427)):
        for size in (32, 64, 224):
            for mode in ("RGB", "L"):
                assert ours(drawn(across, down, mode), PixelSpec(size)) is not None


def test_what_is_not_served_is_left_to_pillow(monkeypatch):
    spec = PixelSpec(32)
    for mode in ("1", "P", "LA", "RGBA", "CMYK", "I", "F", "YCbCr"):
        assert ours(drawn(50, 40, mode), spec) is None, mode
    assert ours(drawn(50, 40), PixelSpec(32, "longest")) is None  # padded
    assert ours(drawn(50, 120), spec) is None  # Pillow 13 scales it down first, those before across first
    assert ours(Image.new("RGB", (2_100, 2_000)), spec) is None  # several blocks of Pillow's memory
    monkeypatch.delattr(Image.Image, "__arrow_c_array__", raising=False)
    assert ours(drawn(50, 40), spec) is None


def test_pictures_that_are_not_served_have_the_pixels_they_had(monkeypatch):
    kinds = {
        "CMYK": encoded(drawn(50, 40, "CMYK"), "JPEG"),
        "transparent": encoded(drawn(50, 40, "RGBA")),
        "tall": encoded(drawn(50, 120)),
        "large": encoded(Image.linear_gradient("L").resize((2_100, 2_000)).convert("RGB"), "JPEG"),
    }
    for name, data in kinds.items():
        with Image.open(io.BytesIO(data)) as picture:
            assert pixels.decode(data, PixelSpec(32)) == by_pillow(picture, PixelSpec(32)), name


def test_an_older_pillow_gives_the_same_pixels(monkeypatch):
    data, spec = encoded(drawn(300, 256), "JPEG", quality=90), PixelSpec(224)
    fast = pixels.decode(data, spec)
    monkeypatch.delattr(Image.Image, "__arrow_c_array__", raising=False)
    assert pixels.decode(data, spec) == fast


@pytest.mark.parametrize("options", [
    {"subsampling": 0}, {"subsampling": 2}, {"progressive": True}, {"quality": 20}
], ids=str)  # fmt: skip
def test_jpegs_of_every_kind_are_as_open_convert_and_resize_make_them(options):
    for mode in ("RGB", "L", "CMYK"):
        data = encoded(drawn(120, 90, mode), "JPEG", **options)
        with Image.open(io.BytesIO(data)) as picture:
            assert pixels.decode(data, PixelSpec(32)) == by_pillow(picture, PixelSpec(32)), mode


def test_a_truncated_picture_is_refused_as_before():
    data = encoded(drawn(300, 256), "JPEG", quality=90)
    with pytest.raises(OSError, match="truncated"):
        pixels.decode(data[: len(data) // 2], PixelSpec(224))


def test_the_core_refuses_what_would_leave_the_picture():
    grey, picture = drawn(50, 40, "L"), drawn(50, 40)
    _, one_byte = grey.__arrow_c_array__()
    _, four_bytes = picture.__arrow_c_array__()
    with pytest.raises(ValueError, match="four bytes a pixel"):
        _core.resample(one_byte, (50, 40), (40, 32), (4, 0), (32, 32), True)
    with pytest.raises(ValueError, match="four bytes a pixel"):
        _core.resample(four_bytes, (51, 40), (40, 32), (4, 0), (32, 32), True)
    for corner, part in (((9, 0), (32, 32)), ((-1, 0), (32, 32)), ((0, 0), (0, 32)), ((0, 1), (32, 32))):
        with pytest.raises(ValueError, match="must lie in the scaled picture"):
            _core.resample(four_bytes, (50, 40), (40, 32), corner, part, True)
    with pytest.raises(ValueError, match="no instruction set 'mmx'"):
        _core.resample(four_bytes, (50, 40), (40, 32), (4, 0), (32, 32), True, "mmx")
