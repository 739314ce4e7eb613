"""Ways from the bytes of a picture to the pixels of a model, for `clipscan bench decode`; see decode.py."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import clipscan
from clipscan.embed import pixels
from clipscan.embed.pixels import PixelSpec

Pixels = Callable[[bytes, PixelSpec], bytes]  # RGB, row by row


class Way(NamedTuple):
    name: str
    version: str
    pixels: Pixels


def installed_ways(say: Callable[[str], None]) -> list[Way]:
    """All that are here; of the others `say` is told why not."""
    pillow = version("pillow")
    ways = [
        Way("clipscan", clipscan.__version__, pixels.decode), Way("Pillow", pillow, _by_pillow),
        Way("draft", pillow, _by_draft),
    ]  # fmt: skip
    for name, package, make in (
        ("simplejpeg", "simplejpeg", _simplejpeg), ("turbojpeg", "PyTurboJPEG", _turbojpeg),
        ("opencv", "opencv-python-headless", _opencv), ("torchvision", "torchvision", _torchvision),
    ):  # fmt: skip
        try:
            ways.append(Way(name, version(package), make()))
        except (
            Exception
        ) as missing:  # not installed, or what it is made of does not load: RuntimeError, OSError
            say(f"{name} is left out: {' '.join(str(missing).split())[:120]}")
    return ways


def _by_pillow(data: bytes, spec: PixelSpec) -> bytes:
    return _resized(Image.open(io.BytesIO(data)).convert("RGB"), spec)


def _by_draft(data: bytes, spec: PixelSpec) -> bytes:
    picture = Image.open(io.BytesIO(data))
    picture.draft(None, (2 * spec.size, 2 * spec.size))  # type: ignore[arg-type]
    return _resized(picture.convert("RGB"), spec)


def _resized(picture: Image.Image, spec: PixelSpec) -> bytes:
    small = picture.resize(pixels.scaled(picture.size, spec), Image.Resampling.BICUBIC)
    return pixels.centred(small, spec).tobytes()


def _simplejpeg() -> Pixels:
    decode = importlib.import_module("simplejpeg").decode_jpeg
    return lambda data, spec: _resized(Image.fromarray(decode(data)), spec)


def _turbojpeg() -> Pixels:
    library = importlib.import_module("turbojpeg")
    decoder = library.TurboJPEG()
    return lambda data, spec: _resized(Image.fromarray(decoder.decode(data, library.TJPF_RGB)), spec)


def _opencv() -> Pixels:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(1)

    def decode(data: bytes, spec: PixelSpec) -> bytes:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        size = pixels.scaled((bgr.shape[1], bgr.shape[0]), spec)
        small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        left, top = pixels.corner_of(size, spec)
        return bytes(small[top : top + spec.size, left : left + spec.size, ::-1].tobytes())

    return decode


def _torchvision() -> Pixels:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    files = importlib.import_module("torchvision.io")
    functional: Any = importlib.import_module("torchvision.transforms.v2.functional")

    def decode(data: bytes, spec: PixelSpec) -> bytes:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        full = files.decode_jpeg(encoded, mode=files.ImageReadMode.RGB)
        width, height = pixels.scaled((full.shape[2], full.shape[1]), spec)
        small = functional.resize(full, [height, width], Image.Resampling.BICUBIC, antialias=True)
        middle = functional.center_crop(small, [spec.size, spec.size])
        return bytes(middle.permute(1, 2, 0).contiguous().numpy().tobytes())

    return decode
