"""A folder that becomes the target when all is written, and what a killed writer left of one."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clipscan.data.atomic import REFUSALS
from clipscan.errors import DataError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # raised by writing only


@contextmanager
def staged(to: Path) -> Iterator[Path]:
    """A folder that becomes `to` if all goes well, and vanishes otherwise. Links are followed first.

    DataError before any work where `to` cannot become it: it holds something, or is a mount point.
    """
    real = Path(os.path.realpath(to))
    _refuse(to, real)
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        _sweep(real)
        folder = real.with_name(f".{real.name}.{secrets.token_hex(4)}.part")
        folder.mkdir()
    except OSError as error:
        raise DataError(f"cannot write beside {to}: {error.strerror}; choose another target") from error
    held = _hold(folder)
    try:
        try:
            yield folder
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if full := _full(error):
                raise DataError(
                    f"{to} cannot be written: {full}. Nothing of it is left; make room for it, or choose "
                    "another target"
                ) from error
            raise
        _name(folder, real)
    finally:
        if held >= 0:
            os.close(held)


def _refuse(to: Path, real: Path) -> None:
    if os.path.islink(real):
        raise DataError(f"{to} is a link that leads nowhere; choose another target or remove it")
    if real.exists() and (not real.is_dir() or any(real.iterdir())):
        raise DataError(f"{to} exists and is not an empty folder; choose another one or remove it")
    if os.path.ismount(real):
        raise DataError(f"{to} is a mount point, which a finished folder cannot replace; name a folder in it")


def _full(error: BaseException | None) -> str:
    """What kept the target from being written, where that was the disk; "" for all else."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return REFUSALS[error.errno]
        error = error.__cause__
    return ""


def _name(folder: Path, real: Path) -> None:
    """Give the finished folder its name; where that fails by now, the work stays under another one."""
    try:
        os.replace(folder, real)
    except OSError as error:
        spare = real.with_name(f"{real.name}-{secrets.token_hex(4)}")
        os.replace(folder, spare)
        raise DataError(
            f"all is written, but to {spare}: {real} cannot be replaced ({error.strerror})"
        ) from error


def _hold(folder: Path) -> int:
    """A lock on the folder that ends with this process; -1 where there are none."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except (ImportError, OSError):
        return -1
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return -1
    return handle


def _sweep(real: Path) -> None:
    """Remove what killed writers of the same target left; what another process holds stays."""
    ours = re.compile(re.escape(f".{real.name}.") + r"[0-9a-f]{8}\.part")
    for path in real.parent.iterdir():
        if (
            ours.fullmatch(path.name)
            and path.is_dir()
            and not path.is_symlink()
            and (handle := _hold(path)) >= 0
        ):
            with suppress(OSError):
                shutil.rmtree(path)
            os.close(handle)
