"""Picture files on the local disk, named by strangers: opened only inside their own folder, and inside
those that the user has named besides."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from clipscan.data.inventory import File, describe, is_url, is_within
from clipscan.data.text import Unfit, printable

# Suffixes of the formats that the decoder reads (embed/pixels.py), the most wanted first. A table, not a
# question to Pillow: what a dataset lists must not depend on the version installed.
IMAGE_EXTENSIONS = (
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff",
    "avif", "avifs", "jfif", "jpe", "jif", "mpo", "apng", "ppm", "pgm", "pbm", "pnm", "pfm",
)  # fmt: skip
# Pictures that it does not read; a folder lists them as bad, so that they do not pass for scanned.
UNREAD_EXTENSIONS = (
    "heic", "heif", "hif", "jxl", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jxr", "svg", "svgz",
    "raw", "dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "raf", "pef", "srw",
    "psd", "psb", "xcf", "eps", "wmf", "emf", "ico", "cur", "icns", "tga", "dds", "dib", "pcx", "qoi",
    "sgi", "ras", "exr", "hdr", "fits", "dcm",
)  # fmt: skip
MAX_IMAGE_BYTES = 256 << 20  # encoded bytes of one picture, before anything is decoded
MAX_TEXT_BYTES = 1 << 20  # a caption or JSON file


def inside(root: str, name: str, roots: Sequence[str] = ()) -> str:
    """The path of `name` under `root`, or else under one of `roots`; Unfit if it leads out of all of them.

    Absolute names, '..' and symbolic links are fine as long as they end inside. So are links of a snapshot
    of the Hugging Face hub into the blobs of the same repository. Where there is no file of a name with
    backslashes, they are read as slashes: Windows wrote it.
    """
    if "\0" in name:
        raise Unfit("file name holds a NUL")
    allowed = [os.path.realpath(folder) for folder in (root, *roots)]
    allowed += _hub_blobs(allowed[0])
    paths = [
        os.path.realpath(os.path.join(folder, spelt)) for spelt in _spelt(name) for folder in (root, *roots)
    ]
    within = [path for path in paths if any(is_within(path, folder) for folder in allowed)]
    there = [path for path in paths if os.path.lexists(path)]
    if found := next((path for path in there if path in within), ""):
        return found
    if there or not within:
        raise Unfit(
            f"{printable(name)!r} leads out of the dataset's folder, to {printable((there or paths)[0])!r}; "
            "only files inside it are read, and inside folders named by --root DIR (roots= in Python)"
        )
    return within[0]


def files_inside(root: str, names: Iterable[str], roots: Sequence[str] = ()) -> dict[str, File]:
    """Name -> those of the files that are there, as they are by now; nothing of what leads outside."""
    found = {}
    for name in names:
        with suppress(Unfit):
            if (file := describe(inside(root, name, roots))).size >= 0:
                found[name] = file
    return found


def _spelt(name: str) -> Iterator[str]:
    yield name
    if "\\" in name:
        yield name.replace("\\", "/")


def _hub_blobs(home: str) -> list[str]:
    """REPO/blobs, for a home in REPO/snapshots/REVISION: where the hub's cache keeps what its links name."""
    above, _, below = home.rpartition("/snapshots/")
    blobs = os.path.join(above, "blobs")
    return [blobs] if above and below and os.path.isdir(blobs) and not os.path.islink(blobs) else []


def read_inside(root: str, name: str, limit: int, roots: Sequence[str] = ()) -> bytes:
    """The bytes of a regular file of at most `limit` bytes under `root` or `roots`; Unfit says why not."""
    path = inside(root, name, roots)
    try:
        with open(path, "rb", opener=_open) as stream:
            if (size := os.fstat(stream.fileno()).st_size) > limit:
                raise Unfit(f"{printable(name)!r} has {size:,} bytes, the limit is {limit:,}")
            return stream.read(limit)
    except OSError as error:
        remedy = "; it is a URL: nothing is downloaded here, img2dataset does that" if is_url(name) else ""
        raise Unfit(f"cannot read {printable(name)!r}: {error.strerror}{remedy}") from None


def _open(path: str, flags: int) -> int:
    """Opens no link and waits for no pipe; OSError for whatever is not a regular file."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file")
    return handle


def read_picture(root: str, name: str, roots: Sequence[str] = ()) -> bytes:
    """The encoded picture; Unfit if it is missing, too large, empty or outside."""
    data = read_inside(root, name, MAX_IMAGE_BYTES, roots)
    if not data:
        raise Unfit("picture is empty (0 bytes)")
    return data
