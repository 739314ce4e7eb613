"""Which members of a tar are one sample: webdataset's grouping rule.

A member's key is its path up to the first dot of its last component, the rest is its extension (lower
case); the members of one sample follow each other. A key that comes back later in the tar is Bad the
second time. One sample is in memory at a time (tar_sample.py).
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from clipscan.data.extensions import Rules
from clipscan.data.sample import Bad, shown_kinds, tally, unreadable
from clipscan.data.tar_members import BrokenTar, Member, after_end, members
from clipscan.data.tar_sample import MemberGroup, SampleMembers
from clipscan.data.text import printable

READ_ERRORS = (OSError, EOFError, zlib.error)
MAX_NAME_CHARS = 4_096  # a file system's longest path
MAX_KEY_CHARS = 256 << 20  # of all keys of one tar, which stay in memory: 3 million of 80 characters

_META = re.compile(r"__[^/]*__($|/)")  # members that webdataset keeps for itself


def split_name(name: str) -> tuple[str, str] | None:
    """'a/b.seg.PNG' -> ('a/b', 'seg.png'); None for a name without key or without extension."""
    folder = name.rfind("/") + 1
    dot = name.find(".", folder)
    if dot < 0 or (dot == folder and "." in name[: max(folder - 1, 0)].rsplit("/", 1)[-1]):
        return None
    # A hidden 'd/.jpg' has the key 'd/', by accident of webdataset's pattern. We follow: no sample that
    # it would train on may stay unseen.
    return (name[:dot], name[dot + 1 :].lower()) if dot > 0 else None


def member_groups(
    stream: BinaryIO, length: int, shard: str, rules: Rules, start: int = 0
) -> Iterator[MemberGroup]:
    """The groups of a tar in order, from byte `start`, where a member's header begins.

    length: of the tar in bytes, -1 where it is unpacked on the way. A tar that cannot be read to its end, or
    that holds no sample, ends with a Bad; together the spans cover all that was read.
    """
    seen = _Keys()
    hand: SampleMembers | None = None
    broken, at_member, appended = "", "", ""
    passed: Counter[str] = Counter()  # kinds of members that are no pair
    try:
        for member in members(stream, length, start):
            at_member = member.name[:MAX_NAME_CHARS]
            if (alone := _alone(member, shard)) is not None:
                tally(passed, alone.kinds)
                seen.any = seen.any or alone.outcome is not None
                yield alone
                continue
            key, ext = split_name(member.name) or ("", "")
            if hand is None or hand.key != key:
                seen.check()
                if hand is not None:
                    last = hand.close(shard, seen, length)
                    seen.note(last)
                    tally(passed, last.kinds)
                    yield last
                hand = SampleMembers(key, rules)
            hand.add(stream, member, ext)
        appended = _appended(stream)
    except BrokenTar as error:
        broken, at_member = str(error), error.member
    except READ_ERRORS as error:
        broken = f"the archive cannot be read on: {error}"
    if hand is not None:
        broken_here = (split_name(at_member) or ("",))[0] == hand.key
        last = hand.close(shard, seen, length)
        seen.note(last)
        tally(passed, last.kinds)
        if broken and (broken_here or isinstance(last.outcome, Bad)):
            last = last._replace(outcome=unreadable(shard, last.key, broken), cut=True)
            broken = ""
        yield last
    if broken:
        key = printable((split_name(at_member) or ("",))[0])
        yield MemberGroup(key, [], unreadable(shard, key, broken), cut=True)
    elif not seen.any and start == 0:
        yield MemberGroup("", [], Bad(shard, "", _empty(passed)))
    if appended:
        yield MemberGroup("", [], Bad(shard, "", f"{appended}: not read, and apply leaves it out"))


class _Keys:
    """The keys of the samples so far."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._chars = 0
        self.any = False

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def note(self, group: MemberGroup) -> None:
        """The group's key, unless its members are no pair."""
        if group.outcome is None:
            return
        self.any = True
        if group.key not in self._keys:
            self._keys.add(group.key)
            self._chars += len(group.key)

    def check(self) -> None:
        """Raises BrokenTar where they would fill the memory."""
        if self._chars > MAX_KEY_CHARS:
            raise BrokenTar(f"the keys of the tar have more than {MAX_KEY_CHARS:,} characters: refused")


def _alone(member: Member, shard: str) -> MemberGroup | None:
    """The member as a group of its own, where no sample can have it."""
    spans = [(member.at, member.data + member.size)]
    if len(member.name) > MAX_NAME_CHARS:
        key = f"{printable(member.name[:80])}... at byte {member.at}"
        reason = f"a member's name has {len(member.name):,} characters, the limit is {MAX_NAME_CHARS:,}"
        return MemberGroup(key, spans, Bad(shard, key, reason))
    name = split_name(member.name)
    if name is None or member.kind == "folder" or _META.match(member.name):
        kinds = () if member.kind == "folder" else (name[1] if name else "",)
        return MemberGroup("", spans, None, kinds=kinds)
    return None


def _appended(stream: BinaryIO) -> str:
    """What follows the end mark, in words; a cut in the padding costs nothing."""
    try:
        return after_end(stream)
    except READ_ERRORS:
        return ""


def _empty(passed: Counter[str]) -> str:
    """Why there are no samples: what is there instead, and which options could read it."""
    if not passed:
        return "the tar holds no samples"
    return (
        f"the tar holds no samples: its members are {shown_kinds(passed)}; --image-key names the extensions "
        "of pictures, --text-key those of captions"
    )
