"""Bytes of a picture -> S x S x 3 pixels, exactly as open_clip's own preprocessing makes them.

This file is two things: functions, and the program that a decoding process runs (see decode.py).
It imports nothing but the standard library, Pillow and our own core, so such a process starts in a
blink, and the little that handles hostile bytes can be read in one sitting. It uses no pickle: an
attacker who takes over a decoder can only send back wrong pixels.

    request   u32 length, settings as JSON; u32 count; count x u64 length; the pictures
    reply     per picture, as soon as it is done: u8 0 | 1, u32 length, pixels | reason in UTF-8
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
from dataclasses import asdict, dataclass
from typing import BinaryIO

from PIL import Image, ImageOps

from clipscan import _core

READY = b"R"  # sent once by a decoder, when its imports have worked
MEMORY = 4 << 30  # bytes a decoder may map: more is a MemoryError there, not a machine out of memory

# What photographs and drawings come in. Pillow reads many more; EPS, for one, starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")  # JPEG brings MPO along


class Refused(ValueError):
    """A picture outside the limits; the message is the reason that the user reads."""


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """The input of a model, and the limits of its decoder.

    `size` S; `resize_mode`, `interpolation` and `fill` are open_clip's words: "shortest" scales the
    shorter side to S and crops the middle, "longest" scales the longer side and pads, "squash"
    ignores the aspect. `max_pixels` is checked in the header, before anything is decoded.
    """

    size: int
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    fill: int = 0
    max_pixels: int = 89_478_485  # Pillow's own warning level: 256 MB as RGB
    max_bytes: int = 64 << 20

    @property
    def nbytes(self) -> int:
        return self.size * self.size * 3


def decode(data: bytes, spec: PixelSpec) -> bytes:
    """The pixels of one encoded picture, row by row, RGB: spec.nbytes bytes.

    First frame of an animation; EXIF rotation and colour profiles ignored; transparency dropped, not
    blended: all as open_clip does. One thing is ours: 16-bit grey keeps its upper byte, where Pillow's
    conversion turns nearly everything white. Raises Refused with a reason, or what Pillow raises.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        width, height = resized = scaled(picture.size, spec)
        # The second product: a strip of 1 x 10,000,000 pixels grows when its short side is scaled to S.
        for w, h, what in (*[(*picture.size, "has")], (width, height, "would be scaled to")):
            if w * h > spec.max_pixels:
                raise Refused(f"{what} {w} x {h} pixels; the limit is {spec.max_pixels:,} in all")
        resample = Image.Resampling.BILINEAR if spec.interpolation == "bilinear" else Image.Resampling.BICUBIC
        # open_clip converts to RGB last: a palette picture is scaled by its nearest colour.
        full = eight_bits(picture)
        if resized != full.size and (pixels := middle(full, resized, spec)) is not None:
            return pixels
        small = full if resized == full.size else full.resize(resized, resample)
        return centred(small, spec).convert("RGB").tobytes()


def middle(full: Image.Image, resized: tuple[int, int], spec: PixelSpec) -> bytes | None:
    """centred(full.resize(resized)) as RGB, by csrc/resample.h: the same bytes in a quarter of the time.

    None for what it does not serve, which Pillow then scales: modes other than RGB and grey; pictures that
    are padded; that lose more than twice as many rows as columns (Pillow 13 scales these in another order
    than those before); that Pillow does not hand out in one piece (above 4 million pixels, or before 11.2.1).
    """
    width, height = resized
    across, down = full.width - width, full.height - height
    padded = min(width, height) < spec.size
    if full.mode not in ("RGB", "L") or padded or down > max(0, 2 * across):
        return None
    full.load()  # raises for bytes that cannot be decoded; below nothing else does
    if full.mode == "L":
        full = full.convert("RGB")
    try:
        _, pixels = full.__arrow_c_array__()
    except (AttributeError, ValueError):
        return None
    corner, part = corner_of(resized, spec), (spec.size, spec.size)
    return _core.resample(pixels, full.size, resized, corner, part, spec.interpolation != "bilinear")


def scaled(size: tuple[int, int], spec: PixelSpec) -> tuple[int, int]:
    """(width, height) after scaling, rounded as torchvision and open_clip round; never below 1."""
    width, height = size
    if spec.resize_mode == "squash":
        return spec.size, spec.size
    if spec.resize_mode == "longest":
        ratio = max(width, height) / spec.size
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    if width <= height:
        return spec.size, int(spec.size * height / width)
    return int(spec.size * width / height), spec.size


def centred(picture: Image.Image, spec: PixelSpec) -> Image.Image:
    """The middle S x S of a picture; what is missing is filled, evenly left and right."""
    across, down = max(0, spec.size - picture.width), max(0, spec.size - picture.height)
    if across or down:
        bands = len(picture.getbands())
        fill = spec.fill if bands == 1 else (spec.fill,) * bands
        border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        picture = ImageOps.expand(picture, border, fill=fill)
    left, top = corner_of(picture.size, spec)
    return picture.crop((left, top, left + spec.size, top + spec.size))


def corner_of(size: tuple[int, int], spec: PixelSpec) -> tuple[int, int]:
    """(left, top) of the middle S x S, rounded as torchvision rounds."""
    width, height = size
    return round((width - spec.size) / 2), round((height - spec.size) / 2)


def eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey by its upper byte; all else untouched."""
    if not picture.mode.startswith("I;16"):
        return picture
    return picture.convert("I").point([value >> 8 for value in range(1 << 16)], "L")


def answer(data: bytes, spec: PixelSpec) -> bytes:
    """One reply frame; whatever goes wrong inside becomes a reason."""
    try:
        return struct.pack("<BI", 0, spec.nbytes) + decode(data, spec)
    except Refused as refusal:
        reason = f"picture {refusal}"
    except MemoryError:
        reason = f"picture needs more than {MEMORY >> 30} GB to decode"
    except Exception as error:  # Pillow raises nearly everything: OSError, SyntaxError, struct.error ...
        reason = f"picture cannot be decoded: {' '.join(str(error).split()) or type(error).__name__}"
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"not a picture: {len(data):,} bytes beginning {data[:8]!r}"
    text = reason[:300].encode()
    return struct.pack("<BI", 1, len(text)) + text


def request(pictures: list[bytes], spec: PixelSpec) -> bytes:
    """One request frame, as `serve` reads it."""
    settings = json.dumps(asdict(spec)).encode()
    lengths = struct.pack(f"<{len(pictures)}Q", *map(len, pictures))
    return b"".join(
        [struct.pack("<I", len(settings)), settings, struct.pack("<I", len(pictures)), lengths, *pictures]
    )


def serve(requests: BinaryIO, replies: BinaryIO, seconds: int = 0) -> None:
    """Answer requests until their end: the parent closed the pipe, or died. A picture that takes longer than
    `seconds` (0: no limit) ends this process: the parent would have done it, so there is none any more."""
    while head := requests.read(4):
        spec = PixelSpec(**json.loads(requests.read(*struct.unpack("<I", head))))
        (count,) = struct.unpack("<I", requests.read(4))
        lengths = struct.unpack(f"<{count}Q", requests.read(8 * count))
        # All of them before the first answer: the parent writes a whole request before it reads.
        for data in [requests.read(length) for length in lengths]:
            signal.alarm(seconds)
            reply = answer(data, spec)
            signal.alarm(0)  # how long the parent takes to read it is not ours to limit
            replies.write(reply)
            replies.flush()


def main() -> None:
    """The decoding process. Its own limits first; then the standard streams become ours alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; we end when it does
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # no such limits here; the pixel limit stands
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours, with a message of its own
    Image.init()  # plug-ins are imported now, while a failure is still heard
    replies = os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    replies.write(READY)
    replies.flush()
    os.dup2(silence, 2)  # libtiff and others print warnings about broken files
    serve(sys.stdin.buffer, replies, *map(int, sys.argv[1:2]))


if __name__ == "__main__":
    main()
