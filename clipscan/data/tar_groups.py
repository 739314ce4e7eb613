"""Which members of a tar are one sample: webdataset's grouping rule, and what each group amounts to.

A member's key is its path up to the first dot of its last component, the rest is its extension (lower
case); the members of one sample follow each other. A key that comes back later in the tar is Bad the
second time. One sample is in memory at a time, and of its members only what may be needed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

from clipscan.data.pictures import IMAGE_EXTENSIONS, MAX_IMAGE_BYTES, MAX_TEXT_BYTES
from clipscan.data.sample import Bad, Sample
from clipscan.data.tar_members import BrokenTar, Member, content, members
from clipscan.data.text import CAPTION_FIELDS, Unfit, caption_text, first_field, json_object, printable, tags

READ_ERRORS = (OSError, EOFError, zlib.error)

_META = re.compile(r"__[^/]*__($|/)")  # members that webdataset keeps for itself


class Rules(NamedTuple):
    """Which extensions hold the picture and the caption, most wanted first."""

    image: tuple[str, ...] = IMAGE_EXTENSIONS
    text: tuple[str, ...] = ("txt", "json")
    fields: tuple[str, ...] = CAPTION_FIELDS  # of a .json that holds the caption


class Group(NamedTuple):
    """A sample's members in the archive and what they amount to.

    A span runs from a member's first header to the end of its content, padding not included.
    """

    key: str
    spans: list[tuple[int, int]]
    outcome: Sample | Bad | None  # None: members that are no pair (a README, a folder)
    cut: bool = False  # the archive breaks in it


def make_rules(image_key: str | None, text_key: str | None) -> Rules:
    """`jpg;png` forces extensions, as in open_clip; `json:prompt` names the caption's field."""
    image = tuple(image_key.lower().split(";")) if image_key else IMAGE_EXTENSIONS
    if not text_key:
        return Rules(image)
    wanted = [part.partition(":") for part in text_key.split(";")]
    fields = tuple(field for _, _, field in wanted if field)
    return Rules(image, tuple(ext.lower() for ext, _, _ in wanted), fields or CAPTION_FIELDS)


def split_name(name: str) -> tuple[str, str] | None:
    """'a/b.seg.PNG' -> ('a/b', 'seg.png'); None for a name without key or without extension."""
    folder = name.rfind("/") + 1
    dot = name.find(".", folder)
    if dot < 0 or (dot == folder and "." in name[: max(folder - 1, 0)].rsplit("/", 1)[-1]):
        return None
    # A hidden 'd/.jpg' has the key 'd/', by accident of webdataset's pattern. We follow: no sample that
    # it would train on may stay unseen.
    return (name[:dot], name[dot + 1 :].lower()) if dot > 0 else None


def groups(stream: BinaryIO, length: int, shard: str, rules: Rules, start: int = 0) -> Iterator[Group]:
    """The archive's groups in order. A broken archive ends with a Bad; together the spans cover it."""
    seen: set[str] = set()
    hand: _Parts | None = None
    broken, at_member = "", ""
    try:
        for member in members(stream, length, start):
            at_member = member.name
            span = (member.at, member.data + member.size)
            name = split_name(member.name)
            if name is None or member.kind == "folder" or _META.match(member.name):
                yield Group("", [span], None)
                continue
            if hand is None or hand.key != name[0]:
                if hand is not None:
                    yield hand.close(shard, seen, length)
                hand = _Parts(name[0], rules)
            hand.spans.append(span)
            hand.add(stream, member, name[1])
    except BrokenTar as error:
        broken, at_member = str(error), error.member
    except READ_ERRORS as error:
        broken = f"the archive cannot be read on: {error}"
    if hand is not None:
        broken_here = (split_name(at_member) or ("",))[0] == hand.key
        last = hand.close(shard, seen, length)
        if broken and (broken_here or isinstance(last.outcome, Bad)):
            last = last._replace(outcome=Bad(shard, last.key, printable(broken)), cut=True)
            broken = ""
        yield last
    if broken:
        key = printable((split_name(at_member) or ("",))[0])
        yield Group(key, [], Bad(shard, key, printable(broken)), cut=True)
    elif not seen and start == 0:
        yield Group("", [], Bad(shard, "", "the tar holds no samples"))


class _Parts:
    """The members of the sample in hand: only what may be needed is kept."""

    def __init__(self, key: str, rules: Rules) -> None:
        self.key = key
        self.rules = rules
        self.spans: list[tuple[int, int]] = []
        self.extensions: list[str] = []
        self.faults: list[str] = []
        self.image: tuple[int, bytes] | None = None  # how wanted (0 = most), content
        self.texts: dict[str, bytes] = {}

    def add(self, stream: BinaryIO, member: Member, ext: str) -> None:
        """Take in the member, if the rules want it; a fault makes the sample Bad, not the shard."""
        rank = self.rules.image.index(ext) if ext in self.rules.image else -1
        if ext in self.extensions:
            self.faults.append(f"member {member.name!r} comes twice")
        self.extensions.append(ext)
        limit = MAX_IMAGE_BYTES if rank >= 0 else MAX_TEXT_BYTES
        if rank < 0 and ext not in self.rules.text and ext != "json":
            return
        if member.kind != "file":
            self.faults.append(f"member {member.name!r} is a {member.kind}; only plain files are read")
        elif member.size > limit:
            self.faults.append(f"member {member.name!r} has {member.size:,} bytes, the limit is {limit:,}")
        elif rank < 0:
            self.texts[ext] = content(stream, member)
        elif self.image is None or rank < self.image[0]:
            self.image = (rank, content(stream, member))

    def close(self, shard: str, seen: set[str], length: int) -> Group:
        """The finished group; `seen` are the keys before it."""
        key = printable(self.key)
        try:
            outcome = self._outcome(shard, key, seen, length)
        except Unfit as unfit:
            outcome = Bad(shard, key, printable(str(unfit)))
        if outcome is not None:
            seen.add(key)
        return Group(key, self.spans, outcome)

    def _outcome(self, shard: str, key: str, seen: set[str], length: int) -> Sample | Bad | None:
        about = self._json()
        if self.faults:
            raise Unfit(self.faults[0])
        pictured = self.image is not None
        captioned = any(ext in self.texts for ext in self.rules.text if ext != "json")
        if not (pictured or captioned or first_field(about, self.rules.fields) is not None):
            return None
        if key in seen:
            raise Unfit("key comes again in the same tar; the members of a sample must follow each other")
        if self.image is None:
            there = ", ".join("." + ext for ext in self.extensions)
            raise Unfit(f"no picture among its members ({there}); --image-key names other extensions")
        if not self.image[1]:
            raise Unfit("picture is empty (0 bytes)")
        at = self.spans[0][0] if length >= 0 else -1
        return Sample(shard, key, self.image[1], self._caption(about), **tags(about), at=at)

    def _caption(self, about: Mapping[str, object]) -> str:
        for ext in self.rules.text:
            if ext == "json" and "json" in self.texts:
                if not about:
                    json_object(self.texts["json"], ".json")  # raises the reason
                return caption_text(first_field(about, self.rules.fields))
            if ext in self.texts:
                return caption_text(self.texts[ext])
        there = ", ".join("." + ext for ext in self.extensions)
        raise Unfit(f"no caption among its members ({there}); --text-key names other extensions")

    def _json(self) -> dict[str, object]:
        """The sample's .json; {} where it is missing or spoilt, which costs only uid, url and sha256."""
        try:
            return json_object(self.texts["json"], ".json") if "json" in self.texts else {}
        except Unfit:
            return {}
