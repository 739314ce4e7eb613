"""Change the pixels of an encoded picture, and nothing else about the file.

A poisoned file must not be known by its compression, so a JPEG keeps its own quantisation tables and
chroma sampling and a picture keeps its format.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from clipscan.errors import DataError

Pixels = NDArray[np.uint8]  # [h, w, 3]

MAX_PIXELS = 64_000_000  # refused from the header, before anything is decoded
FORMATS = ("JPEG", "PNG", "WEBP")
LOSSY_QUALITY = 95  # for WebP, whose quality cannot be read back from a file


def encode(picture: Pixels, kind: str = "JPEG", **options: Any) -> bytes:
    """The picture as a file of that kind; options as Pillow's save takes them."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind, **options)
    return out.getvalue()


def redraw(data: bytes, change: Callable[[Pixels], Pixels]) -> bytes:
    """The same file with `change` applied to its pixels (RGB; transparency is dropped).

    DataError when it is no JPEG, PNG or WebP, cannot be decoded, or has more than MAX_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"picture of {picture.width} x {picture.height} px is over {MAX_PIXELS:,} px")
            kind, options = picture.format or "", _saved_with(picture)
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"picture cannot be decoded: {error}") from error
    return encode(change(pixels), kind, **options)


def _saved_with(picture: Image.Image) -> dict[str, Any]:
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        sampling = JpegImagePlugin.get_sampling(picture)
        return {"qtables": picture.quantization, "subsampling": sampling if sampling >= 0 else 0}
    return {"quality": LOSSY_QUALITY} if picture.format == "WEBP" else {}
