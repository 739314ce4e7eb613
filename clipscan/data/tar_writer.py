"""Write samples as img2dataset would: webdataset tars with KEY.jpg, KEY.txt and KEY.json.

The same samples give the same bytes; a tar that exists is finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from clipscan.data import Sample
from clipscan.data.atomic import replacing

Members = Iterable[tuple[str, bytes]]  # (file name, content)


def members(sample: Sample) -> list[tuple[str, bytes]]:
    """A pair's three files. The JSON says nothing that the pair does not say itself."""
    image = sample.image or b""
    about = {
        "key": sample.key,
        "caption": sample.caption,
        "uid": sample.uid,
        "url": sample.url,
        "sha256": hashlib.sha256(image).hexdigest(),
    }
    return [
        (f"{sample.key}.{_extension(image)}", image),
        (f"{sample.key}.txt", sample.caption.encode()),
        (f"{sample.key}.json", json.dumps({name: text for name, text in about.items() if text}).encode()),
    ]


def write_tar(path: Path, samples: Iterable[Sample]) -> int:
    """Write the samples to one tar and return their number."""
    count = 0

    def files() -> Members:
        nonlocal count
        for sample in samples:
            count += 1
            yield from members(sample)

    write_members(path, files())
    return count


def write_members(path: Path, files: Members) -> None:
    """Write plain files to one tar, by renaming a finished one into place."""
    with replacing(path) as (draft,), tarfile.open(draft, "w") as tar:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def _extension(image: bytes) -> str:
    if image.startswith(b"\x89PNG"):
        return "png"
    return "webp" if image[8:12] == b"WEBP" else "jpg"
