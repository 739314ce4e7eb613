"""Where bytes come from: local paths and fsspec URLs, listed, described and opened.

The source is typed by the user and believed as a place; what is found there is not.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote, urlparse

from clipscan.data.braces import expand_braces
from clipscan.data.sample import shown_kinds, tally
from clipscan.errors import DataError

STAMPS = ("ETag", "etag", "mtime", "LastModified", "created")  # what drivers call it
EXTRAS = {"s3": "clipscan[s3]", "s3a": "clipscan[s3]"}  # the extra that brings the driver of a scheme


class File(NamedTuple):
    """A regular file. `size` is -1 and `stamp` "" where they cannot be known (a missing one)."""

    path: str
    size: int
    stamp: str


class Inventory(NamedTuple):
    """Everything that a source names: the places as given, and the files in and under them."""

    source: str
    roots: list[str]  # absolute local paths or URLs, brace lists expanded
    files: list[File]  # sorted by path
    passed_over: list[str]  # links to folders, sockets and the like: never followed

    def names(self) -> dict[str, str]:
        """Path of each file -> its name relative to the common root of the dataset."""
        return relative_names(self.roots, [file.path for file in self.files])

    def of_kind(self, *extensions: str) -> list[File]:
        """Files with one of the extensions, and those that the user named outright."""
        named = set(self.roots)
        return [f for f in self.files if extension(f.path) in extensions or f.path in named]

    def counts(self) -> str:
        """'12 .tar, 3 .json': what lies there, for people."""
        counts: Counter[str] = Counter()
        tally(counts, (extension(file.path) for file in self.files))
        return shown_kinds(counts) or "no files"


def take_inventory(source: str | Path | Sequence[str | Path], linked: Sequence[str] = ()) -> Inventory:
    """Expand braces and `::` lists, walk folders, and look at every file once.

    Links to folders are followed where they end in one of `linked`. Remote listings are asked for anew.
    """
    places = places_of(source)
    roots = list(dict.fromkeys(_absolute(name) for place in places for name in _expand(place)))
    files: dict[str, File] = {}
    passed_over: list[str] = []
    for filesystem in {id(fs): fs for fs, _ in map(_filesystem, filter(is_url, roots))}.values():
        filesystem.invalidate_cache()  # fsspec keeps listings as long as the process lives
    for root in roots:
        found, odd = _walk_url(root) if is_url(root) else _walk(root, linked)
        files.update((file.path, file) for file in found)
        passed_over += odd
    shown = "::".join(places)
    return Inventory(shown, roots, [files[path] for path in sorted(files)], passed_over)


def places_of(source: str | Path | Sequence[str | Path]) -> list[str]:
    """One place, or several, as typed."""
    if isinstance(source, (str, Path)):
        return [str(source)]
    return [str(place) for place in source]


def absolute_place(place: str) -> str:
    """A place as typed, made independent of the working folder; brace lists and `::` lists stay lists."""
    if not os.path.lexists(os.path.expanduser(place)) and "::" in place:
        return "::".join(absolute_place(part) for part in place.split("::"))
    if place.startswith("file:") or is_url(place) or not place:
        return place
    return os.path.join(os.getcwd(), os.path.expanduser(place))  # not normalised: braces may hold slashes


def is_url(location: str) -> bool:
    """Does fsspec open it (s3://, https:// ...), rather than the operating system?"""
    return "://" in location


def extension(path: str) -> str:
    """'shards/A.TAR' -> 'tar', '.tar.gz' -> 'tar.gz', '' without one."""
    name = path.rsplit("/", 1)[-1].lower()
    if name.endswith(".tar.gz"):
        return "tar.gz"
    return name.rsplit(".", 1)[-1] if "." in name.lstrip(".") else ""


def is_within(path: str, folder: str) -> bool:
    """Is the real path `path` the folder or below it?"""
    return os.path.commonpath([path, folder]) == folder


def open_binary(location: str) -> BinaryIO:
    """Open for reading; a local path only if it is a regular file. OSError if that fails."""
    if is_url(location):
        filesystem, path = _filesystem(location)
        # A size and an etag from an old listing: a file rewritten since could not be read.
        filesystem.invalidate_cache(path.rpartition("/")[0])
        return cast(BinaryIO, filesystem.open(path, "rb"))
    handle = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a fifo must not hang us
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{location} is not a regular file")
    return os.fdopen(handle, "rb")


def relative_names(roots: list[str], paths: list[str]) -> dict[str, str]:
    """Path -> path relative to the deepest folder above all roots (a folder given is its own root)."""
    listed = set(paths)
    folders = [root.split("/")[:-1] if root in listed else root.rstrip("/").split("/") for root in roots]
    depth = len(os.path.commonprefix(folders))  # noqa: RUF071  of lists: whole path components
    return {path: "/".join(path.split("/")[depth:]) for path in paths}


def _expand(place: str) -> list[str]:
    if not is_url(place) and os.path.exists(place):  # a real file may have braces in its name
        return [place]
    names = [name for part in place.split("::") if part for name in expand_braces(part)]
    for name in names:
        if name.startswith("pipe:"):
            raise DataError(f"{name!r} would run a command; give a path or an fsspec URL instead")
    if not names:
        raise DataError("the dataset's path is empty; give a folder, a file, a brace list or a URL")
    return names


def _absolute(place: str) -> str:
    if place.startswith("file:"):
        place = unquote(urlparse(place).path)
    if is_url(place):
        filesystem, path = _filesystem(place.rstrip("/"))
        return str(filesystem.unstrip_protocol(path))  # as listings of the same driver spell it
    return os.path.abspath(os.path.expanduser(place))


def _walk(root: str, linked: Sequence[str]) -> tuple[list[File], list[str]]:
    if not os.path.isdir(root):
        return [describe(root)], []
    files, passed_over = [], []
    allowed = [os.path.realpath(folder) for folder in linked]
    home = os.path.realpath(root)
    walked: set[str] = set()  # linked folders, each once: links may go round in circles
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        subfolders.sort()  # of two links to one folder the first is followed, wherever it runs
        for path in [os.path.join(folder, name) for name in subfolders]:
            end = os.path.realpath(path) if os.path.islink(path) else ""
            again = end and (end in walked or is_within(home, end))
            if again or (end and not any(is_within(end, one) for one in allowed)):
                subfolders.remove(os.path.basename(path))
                passed_over.append(path)
            elif end:
                walked.add(end)
        for path in (os.path.join(folder, name) for name in names):
            file = describe(path)
            files.append(file) if file.size >= 0 else passed_over.append(path)
    return files, passed_over


def _raise(error: OSError) -> None:
    raise DataError(f"cannot list {error.filename}: {error.strerror}") from error


def describe(path: str) -> File:
    """A local file as it is now; size -1 where there is none, or something else than a regular file."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return File(path, -1, "")
    regular = stat.S_ISREG(about.st_mode)
    return File(path, about.st_size if regular else -1, str(about.st_mtime_ns) if regular else "")


def _walk_url(root: str) -> tuple[list[File], list[str]]:
    filesystem, path = _filesystem(root)
    try:
        about = filesystem.info(path)
    except FileNotFoundError:
        return [File(root, -1, "")], []
    if about.get("type") != "directory":
        return [_describe_url(root, about)], []
    found = filesystem.find(path, detail=True)
    return [_describe_url(filesystem.unstrip_protocol(name), about) for name, about in found.items()], []


def _describe_url(url: str, about: dict[str, Any]) -> File:
    stamp = next((about[key] for key in STAMPS if about.get(key)), "")
    size = about.get("size")
    return File(url, size if isinstance(size, int) else -1, str(stamp))


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    scheme = url.split("://", 1)[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as missing:
        remedy = f"pip install '{EXTRAS[scheme]}'" if scheme in EXTRAS else str(missing)
        raise ImportError(f"reading {scheme}:// needs another package: {remedy}") from missing
    except ValueError as unknown:
        raise DataError(f"cannot read {url}: {unknown}") from unknown
    return filesystem, path
