"""The worker that decodes strangers' pictures for the page: a program of its own, which may crash.

Run as a file, imports the standard library and Pillow only. Frames on stdin: longest side (u16), quality
(u16), byte count (u32), picture; on stdout: status (u8: 0 picture, 1 reason), byte count (u32), PNG, JPEG
or WebP, or UTF-8.
No pickle crosses the pipe, so a decoder that was taken over can send a wrong picture and nothing else.
"""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
import warnings
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = (
    89_478_485  # as embed/pixels.py: what was embedded can be shown. 256 MB as RGB; read in the header
)
MAX_MEMORY = 2 << 30  # address space of the worker: Pillow, one picture at the limit and its copies
LOSSLESS = 85  # quality of WebP
SMALL = 64  # pictures up to this side are shown as they are, pixel for pixel
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
    "PPM",
    "MPO",
)  # as there; EPS starts a program

REQUEST = struct.Struct("<HHI")
ANSWER = struct.Struct("<BI")


def thumbnail(data: bytes, side: int, quality: int = 0) -> bytes:
    """The picture with its longest side at most `side`, proportions kept, encoded anew.

    PNG up to SMALL pixels a side; above, JPEG of quality 90 without chroma subsampling, so that a small
    trigger stays visible. With a quality of 1 to 100 it is WebP, from LOSSLESS on without loss up to SMALL
    pixels a side (and JPEG where Pillow was built without WebP). Transparency and orientation tags are
    ignored, as the encoder ignores them.
    ValueError or OSError says what is wrong with the picture.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limit below is ours
        Image.MAX_IMAGE_PIXELS = None
        Image.init()  # all plug-ins; AVIF is missing from some builds
        known = [name for name in FORMATS if name in Image.OPEN]
        with Image.open(io.BytesIO(data), formats=known) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels, the limit is {MAX_PIXELS:,}")
            picture.draft("RGB", (2 * side, 2 * side))  # JPEG: decodes at a fraction where that is enough
            small = _eight_bits(picture).convert("RGB")
    small.info = {}  # colour profiles, comments and EXIF would be copied along
    exact = max(width, height) <= SMALL
    if not exact:
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if quality and "WEBP" in Image.SAVE:
        small.save(out, "WEBP", quality=quality, lossless=exact and quality >= LOSSLESS)
    elif exact:
        small.save(out, "PNG")
    else:
        small.save(out, "JPEG", quality=quality or 90, subsampling=0)
    return out.getvalue()


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey by its upper byte, as the encoder sees it; Pillow's own conversion turns it white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return picture.convert("I").point([value >> 8 for value in range(1 << 16)], "L")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer frames until the pipe closes."""
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        side, quality, size = REQUEST.unpack(head)
        try:
            status, answer = 0, thumbnail(requests.read(size), side, quality)
        except MemoryError:
            status, answer = 1, b"decoding it takes too much memory"
        except Exception as wrong:  # whatever a decoder raises is a reason to show, not to end
            status, answer = 1, _reason(wrong).encode("utf-8", "replace")
        answers.write(ANSWER.pack(status, len(answer)) + answer)
        answers.flush()


def _reason(wrong: Exception) -> str:
    if type(wrong).__name__ == "UnidentifiedImageError":  # its own text holds a memory address
        return f"not a picture in one of the formats {', '.join(FORMATS)}"
    return (" ".join(str(wrong).split()) or type(wrong).__name__)[:200]


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # no such limits here; MAX_PIXELS stands


def main() -> None:
    """The process: its limits first, then standard output for answers only."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; we end when it does
    _limit_memory()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some decoders, being C, print
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
