"""What keeps files of strangers from raising the unexpected and from unpacking to more than memory holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clipscan.errors import DataError

UNPACKED_FREE = 256 << 20  # bytes that any file may unpack to at once, however small it is
INFLATION = 64  # beyond that: times its size. Captions pack 3 to 20 times, vectors and pictures hardly at all


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Whatever a parser raises inside becomes a DataError that names the file.

    A .npy header is a Python expression, an .npz any zip, a parquet file a tree of offsets: for what a
    stranger wrote there their parsers raise a dozen kinds of exception, of which they document two.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot read {path}: {str(error) or type(error).__name__}") from error


def check_unpacked(what: str, unpacked: int, packed: int, free: int = UNPACKED_FREE) -> None:
    """DataError where a file of `packed` bytes unpacks to more than is plausible, and more than `free`."""
    if unpacked > max(free, INFLATION * packed):
        raise DataError(
            f"{what} unpacks from {packed:,} bytes to {unpacked:,} or more; at most {free >> 20:,} MiB, or "
            f"{INFLATION} times its size, are read"
        )
