"""Writing is a rename: a file that exists is finished, and is on the disk before its name is, unless a
digest elsewhere vouches for it.

One writer for all rooms: what a run, a training or a list leaves behind goes through `replacing`.
"""

from __future__ import annotations

import errno
import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from clipscan.errors import RunError

DRAFT = re.compile(r"\..+\.\d+\.part")  # .NAME.PID.part
REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it would be larger than a file may be here",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "writing there is not permitted",
    errno.EPERM: "writing there is not permitted",
    errno.EIO: "the disk reports an error",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EEXIST: "a part of its path is a file, not a folder",  # of mkdir
    errno.EISDIR: "a folder has its name",
    errno.ENAMETOOLONG: "its name is too long for this file system",
}
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EBADF)


@contextmanager
def replacing(*targets: Path, synced: bool = True) -> Iterator[list[Path]]:
    """Temporary names beside `targets`; renamed to them, in that order, when the block ends well.

    After an exception the temporary files are removed and the targets are as before. A target whose
    temporary file was never written is left alone. synced: wait until all of it is on the disk, which takes
    milliseconds a file; without, a power cut may leave less. Raises RunError, which names the file, where
    the system refuses to write it: disk full, quota, read-only, no permission.
    """
    drafts = [target.with_name(f".{target.name}.{os.getpid()}.part") for target in targets]
    with refusals(*targets, also=drafts):
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield drafts
            pairs = zip(drafts, targets, strict=True)
            written = [(draft, target) for draft, target in pairs if draft.exists()]
            for draft, _ in written if synced else ():
                _sync(draft)
            for draft, target in written:
                rename(draft, target)
            for folder in dict.fromkeys(target.parent for _, target in written if synced):
                _sync_folder(folder)
        finally:
            for draft in drafts:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)


@contextmanager
def refusals(*targets: Path, also: Iterable[Path] = ()) -> Iterator[None]:
    """Inside, what the system refuses to write to `targets` (or to `also`, their drafts) is a RunError."""
    try:
        yield
    except OSError as error:
        drafts = dict(zip(map(str, also), targets, strict=False))
        ours = {str(path) for target in targets for path in (target, *target.parents)} | set(drafts)
        named = None if error.filename is None else os.fsdecode(error.filename)
        if error.errno not in REFUSALS or not (named is None or named in ours):
            raise
        place = drafts.get(named or "", targets[0])
        raise RunError(
            f"{place} cannot be written: {REFUSALS[error.errno]}. Nothing half-written is left, and what is "
            "finished stays: mend that, and do the same again"
        ) from error


def rename(draft: Path, target: Path) -> None:
    """The moment at which a file comes to be."""
    os.replace(draft, target)


def write_bytes(path: Path, data: bytes) -> None:
    """A file of these bytes."""
    with replacing(path) as (draft,):
        draft.write_bytes(data)


def save_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """The bytes of np.save, which does not say why a write failed."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8).data)


def sweep(folder: Path) -> None:
    """Remove what killed writers left anywhere in `folder`. Only where no other process writes there."""
    for at, _, names in os.walk(folder):
        for name in filter(DRAFT.fullmatch, names):
            with suppress(OSError):
                (Path(at) / name).unlink()


def sweep_of(target: Path) -> None:
    """Remove what killed writers of `target`, and of names that begin like it, left beside it."""
    for draft in target.parent.glob(f".{glob.escape(target.stem)}*.part"):
        with suppress(OSError):
            draft.unlink()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Without this a name may be lost in a power cut; some file systems cannot, or need not."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in NO_FOLDER_SYNC:
            return
        raise
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(folder)
