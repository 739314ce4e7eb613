"""The members of a tar that are one sample: which are kept, and the Sample or Bad that they make.

Of a sample's members only those that the rules want are in memory, each up to a limit.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from itertools import islice
from typing import BinaryIO, NamedTuple

from clipscan.data.extensions import Rules
from clipscan.data.pictures import IMAGE_EXTENSIONS, MAX_IMAGE_BYTES, MAX_TEXT_BYTES, UNREAD_EXTENSIONS
from clipscan.data.sample import Bad, Sample, unreadable
from clipscan.data.tar_members import Member, content, padded
from clipscan.data.text import Unfit, caption_of, caption_text, first_field, json_object, printable, tags

MAX_MEMBERS = 1_024  # of one sample; real ones have a dozen
SHOWN = 8  # extensions of one sample in a message


class MemberGroup(NamedTuple):
    """A sample's members in the archive and what they amount to.

    A span runs from a member's first header to the end of its content, padding not included.
    """

    key: str
    spans: list[tuple[int, int]]
    outcome: Sample | Bad | None  # None: members that are no pair (a README, a folder)
    cut: bool = False  # the archive breaks in it
    kinds: tuple[str, ...] = ()  # of members that are no pair: their extensions, folders left out


class SampleMembers:
    """The members of the sample in hand: only what may be needed is kept."""

    def __init__(self, key: str, rules: Rules) -> None:
        self.key = key
        self.rules = rules
        self.spans: list[tuple[int, int]] = []
        self.extensions: dict[str, None] = {}  # in their order
        self.fault = ""  # the first one
        self.image: tuple[int, bytes] | None = None  # how wanted (0 = most), content
        self.texts: dict[str, bytes] = {}

    def add(self, stream: BinaryIO, member: Member, ext: str) -> None:
        """Take in the member, if the rules want it; a fault makes the sample Bad, not the shard."""
        self._extend(member)
        if ext in self.extensions:
            self._blame(f"member {member.name!r} comes twice")
        if len(self.extensions) == MAX_MEMBERS:
            self._blame(f"more than {MAX_MEMBERS:,} members have this key")
            return
        self.extensions[ext] = None
        rank = self.rules.image.index(ext) if ext in self.rules.image else -1
        limit = MAX_IMAGE_BYTES if rank >= 0 else MAX_TEXT_BYTES
        if rank < 0 and ext not in self.rules.text and ext != "json":
            return
        if member.kind != "file":
            self._blame(f"member {member.name!r} is a {member.kind}; only plain files are read")
        elif member.size > limit:
            self._blame(f"member {member.name!r} has {member.size:,} bytes, the limit is {limit:,}")
        elif rank < 0:
            self.texts[ext] = content(stream, member)
        elif self.image is None or rank < self.image[0]:
            self.image = (rank, content(stream, member))

    def _extend(self, member: Member) -> None:
        """The member's span; one that follows the last directly makes that longer."""
        start, stop = member.at, member.data + member.size
        if self.spans and padded(self.spans[-1][1]) == start:
            start, _ = self.spans.pop()
        self.spans.append((start, stop))

    def _blame(self, fault: str) -> None:
        self.fault = self.fault or fault

    def close(self, shard: str, seen: Container[str], length: int) -> MemberGroup:
        """The finished group. seen: the keys before it; length: of the tar in bytes, -1 in a gzip."""
        key = printable(self.key)
        try:
            outcome = self._outcome(shard, key, seen, length)
        except Unfit as unfit:
            outcome = unreadable(shard, key, unfit)
        return MemberGroup(key, self.spans, outcome, kinds=() if outcome else tuple(self.extensions))

    def _outcome(self, shard: str, key: str, seen: Container[str], length: int) -> Sample | Bad | None:
        about = self._json()
        if self.fault:
            raise Unfit(self.fault)
        pictured = self.image is not None
        captioned = any(ext in self.texts for ext in self.rules.text if ext != "json")
        described = first_field(about, self.rules.fields) is not None
        if not (pictured or captioned or described or self._resembles_a_pair()):
            return None
        if key in seen:
            raise Unfit("key comes again in the same tar; the members of a sample must follow each other")
        if self.image is None:
            raise self._without("picture", "--image-key", (*IMAGE_EXTENSIONS, *self.rules.image))
        if not self.image[1]:
            raise Unfit("picture is empty (0 bytes)")
        at = self.spans[0][0] if length >= 0 else -1
        return Sample(shard, key, self.image[1], self._caption(about), **tags(about), at=at)

    def _caption(self, about: Mapping[str, object]) -> str:
        for ext in self.rules.text:
            if ext == "json" and "json" in self.texts:
                if not about:
                    json_object(self.texts["json"], ".json")  # raises the reason
                return caption_of(about, self.rules.fields, "the .json")
            if ext in self.texts:
                return caption_text(self.texts[ext])
        raise self._without("caption", "--text-key", ("txt", *self.rules.text))

    def _resembles_a_pair(self) -> bool:
        """Does a member look like a picture or a caption, though the rules do not want it: 'x.1.png'?"""
        like = {*IMAGE_EXTENSIONS, *UNREAD_EXTENSIONS, "txt"}
        return any(_last_part(ext) in like for ext in self.extensions)

    def _without(self, what: str, option: str, like: tuple[str, ...]) -> Unfit:
        """The picture or the caption is missing: what is there, and the option that would read it."""
        shown = ", ".join("." + ext for ext in islice(self.extensions, SHOWN))
        more = f" and {len(self.extensions) - SHOWN:,} more" if len(self.extensions) > SHOWN else ""
        alike = [ext for ext in self.extensions if _last_part(ext) in like]
        unread = [
            ext for ext in self.extensions if what == "picture" and _last_part(ext) in UNREAD_EXTENSIONS
        ]
        remedy = f"{option} names other extensions"
        if alike:
            remedy = f"{option} {alike[0]!r} would read one"
        elif unread:
            remedy = f"a .{_last_part(unread[0])} picture is not decoded here"
        return Unfit(f"no {what} among its members ({shown}{more}); {remedy}")

    def _json(self) -> dict[str, object]:
        """The sample's .json; {} where it is missing or spoilt, which costs only uid, url and sha256."""
        try:
            return json_object(self.texts["json"], ".json") if "json" in self.texts else {}
        except Unfit:
            return {}


def _last_part(ext: str) -> str:
    """'seg.png' -> 'png'."""
    return ext.rpartition(".")[2]
