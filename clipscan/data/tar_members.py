"""The members of a tar, one header after the other, from any seekable stream.

The stdlib parses single 512-byte blocks (tarfile.TarInfo.frombuf); the walk over them is ours, because
tarfile reads extended headers of any declared size into memory, recurses on chains of them, and hides
where a member's first header lies, which is what fetching again and copying verbatim need.
What is a member and how it is called follows tarfile, so that we see what webdataset will see.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BLOCK = tarfile.BLOCKSIZE
MAX_EXTENSION_BYTES = 1 << 20  # one long name or pax header; real ones have a few hundred bytes
MAX_PACKED_BYTES = 4 << 30  # of one member in a .tar.gz, where skipping means unpacking
MAX_EXTENSIONS = 16  # extended headers before one member; real ones have at most three
MAX_SHOWN_NAME = 4_096  # characters of a name in a message
MAX_PADDING_BYTES = 4 << 20  # zeros after the end mark: tar writes 10 kB, with its largest -b 1 MB or so

_SPARSE = "sparse file"
_KINDS = {
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
    tarfile.GNUTYPE_SPARSE: _SPARSE,
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
}


class BrokenTar(Exception):
    """The archive cannot be read past here. `member` is the name of the one that broke, if known."""

    def __init__(self, reason: str, member: str = "") -> None:
        super().__init__(reason)
        self.member = member[:MAX_SHOWN_NAME]


class Member(NamedTuple):
    """One member. Its bytes in the archive are [at, end), its content starts at `data`."""

    name: str  # undecodable bytes by surrogateescape, as tarfile gives it
    kind: str  # "file", "folder", "symbolic link" ...
    size: int  # declared bytes of content
    at: int  # its first header, extended headers included
    data: int
    end: int  # where the next header starts


def members(stream: BinaryIO, length: int, start: int = 0) -> Iterator[Member]:
    """Every member from the header at `start` on; `length` is the stream's (-1 where unknown).

    The caller may read a member's content while it has it; seeks only go forwards then. Ends at the
    end mark, which is one zero block, as for tarfile. Raises BrokenTar, without a mark too: a download
    that stopped between two members looks like that.
    """
    at = start
    while (member := _next(stream, at)) is not None:
        if length < 0 and member.size > MAX_PACKED_BYTES:
            raise BrokenTar(f"member {member.name!r} unpacks to {member.size:,} bytes: refused", member.name)
        if length >= 0 and member.data + member.size > length:
            raise BrokenTar(_cut(member, length - member.data), member.name)
        yield member
        reached = stream.seek(member.end)
        if reached < member.data + member.size:  # a decompressor stops where its data ends
            raise BrokenTar(_cut(member, reached - member.data), member.name)
        at = member.end


def after_end(stream: BinaryIO) -> str:
    """What follows the end mark just read, in words; "" where nothing but padding does.

    As for tarfile and webdataset the archive is over there, even where another was appended to it.
    """
    position = stream.tell()
    stop = position + MAX_PADDING_BYTES
    while (at := stream.tell()) < stop and (block := stream.read(128 * BLOCK)):
        if block.count(0) < len(block):
            return f"another archive or other data follows the end mark, at byte {at:,} or a little later"
    return f"more than {MAX_PADDING_BYTES:,} zeros follow the end mark" if stream.tell() >= stop else ""


def content(stream: BinaryIO, member: Member) -> bytes:
    """The member's bytes, all of them or BrokenTar. The caller has checked member.size."""
    stream.seek(member.data)
    data = stream.read(member.size)
    if len(data) < member.size:
        raise BrokenTar(_cut(member, len(data)), member.name)
    return data


def padded(size: int) -> int:
    """Rounded up to whole blocks, as content is stored."""
    return -(-size // BLOCK) * BLOCK


def _next(stream: BinaryIO, at: int) -> Member | None:
    """The member whose first header is at `at`, extended headers resolved; None at the end."""
    stream.seek(at)
    position = at
    name: str | None = None
    size: int | None = None
    sparse = False
    for _ in range(MAX_EXTENSIONS):
        info = _header(stream, position)
        if info is None:
            return None
        position += BLOCK
        if info.type not in _EXTENDED:
            return _member(info, at, position, name, size, sparse)
        fields = _EXTENDED[info.type](_extension(stream, info, position))
        position += padded(info.size)
        # Of several extended headers tarfile lets the first win.
        name = fields.get("path") if name is None else name
        size = _number(fields.get("size"), position) if size is None else size
        sparse = sparse or any(field.startswith("GNU.sparse") for field in fields)
    raise BrokenTar(f"more than {MAX_EXTENSIONS} extended headers in a row at byte {at}")


def _member(
    info: tarfile.TarInfo, at: int, data: int, name: str | None, size: int | None, sparse: bool
) -> Member:
    kind = _SPARSE if sparse else _KINDS.get(info.type, "file of an unknown kind")
    size = info.size if size is None else size
    has_content = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
    stored = size if has_content else 0  # a link's header may carry its target's size
    return Member(info.name if name is None else name, kind, stored, at, data, data + padded(stored))


def _header(stream: BinaryIO, position: int) -> tarfile.TarInfo | None:
    block = stream.read(BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
        return None
    except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
        raise BrokenTar("the archive ends without its end mark; it may have been cut off") from None
    except (tarfile.HeaderError, ValueError) as error:
        raise BrokenTar(f"no tar header at byte {position}: {error}") from None
    if info.size < 0:
        raise BrokenTar(f"member of negative size at byte {position}", info.name)
    return info


def _extension(stream: BinaryIO, info: tarfile.TarInfo, position: int) -> bytes:
    """The content of an extended header; the stream then stands at the next header."""
    if info.size > MAX_EXTENSION_BYTES:
        raise BrokenTar(f"extended header of {info.size:,} bytes at byte {position}: refused")
    block = stream.read(padded(info.size))
    if len(block) < info.size:
        raise BrokenTar(f"the archive ends inside an extended header at byte {position}")
    return block[: info.size]


def _gnu_name(data: bytes) -> dict[str, str]:
    return {"path": data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")}


def _pax(data: bytes) -> dict[str, str]:
    """The `length key=value\\n` records of a pax header."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at : at + 1].isdigit():
        digits, space, _ = data[at : at + 21].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : at + length].partition(b"=")
        if not equals or not value.endswith(b"\n") or at + length > len(data):
            raise BrokenTar("a pax header is malformed")
        fields[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        at += length
    if "path" in fields:
        fields["path"] = fields["path"].rstrip("/")
    return fields


def _global_pax(data: bytes) -> dict[str, str]:
    """Comments of `git archive` and the like pass. Renaming every later member is an attack."""
    if odd := [key for key in _pax(data) if key in ("path", "size") or key.startswith("GNU.sparse")]:
        raise BrokenTar(f"a global pax header sets {odd[0]!r} for all members: refused")
    return {}


def _ignored(data: bytes) -> dict[str, str]:
    return {}


_EXTENDED = {
    tarfile.GNUTYPE_LONGNAME: _gnu_name,
    tarfile.GNUTYPE_LONGLINK: _ignored,
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: _global_pax,
}


def _number(text: str | None, position: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise BrokenTar(f"a pax header declares the size {text[:30]!r} before byte {position}")
    return int(text)


def _cut(member: Member, there: int) -> str:
    name = member.name[:MAX_SHOWN_NAME]
    return f"the archive ends inside member {name!r}, after {max(there, 0):,} of {member.size:,} bytes"
