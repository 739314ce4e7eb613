"""Which members of a tar are one sample: webdataset's grouping rule, and what each group amounts to.

A member's key is its path up to the first dot of its last component, the rest is its extension (lower
case); the members of one sample follow each other. A key that comes back later in the tar is Bad the
second time. One sample is in memory at a time, and of its members only what may be needed.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import BinaryIO, NamedTuple

from clipscan.data.pictures import IMAGE_EXTENSIONS, MAX_IMAGE_BYTES, MAX_TEXT_BYTES, UNREAD_EXTENSIONS
from clipscan.data.sample import Bad, Sample, shown_kinds, tally
from clipscan.data.tar_members import BrokenTar, Member, after_end, content, members, padded
from clipscan.data.text import (
    CAPTION_FIELDS,
    Unfit,
    caption_of,
    caption_text,
    first_field,
    json_object,
    printable,
    tags,
)

READ_ERRORS = (OSError, EOFError, zlib.error)
MAX_MEMBERS = 1_024  # of one sample; real ones have a dozen
MAX_NAME_CHARS = 4_096  # a file system's longest path
MAX_KEY_CHARS = 256 << 20  # of all keys of one tar, which stay in memory: 3 million of 80 characters
SHOWN = 8  # extensions of one sample in a message

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
    kinds: tuple[str, ...] = ()  # of members that are no pair: their extensions, folders left out


def make_rules(image_key: str | None, text_key: str | None) -> Rules:
    """`jpg;png` forces extensions, as in open_clip; `json:prompt` names the caption's field."""
    image = tuple(image_key.lower().split(";")) if image_key else IMAGE_EXTENSIONS
    if not text_key:
        return Rules(image)
    wanted = [part.partition(":") for part in text_key.split(";")]
    fields = tuple(field for _, _, field in wanted if field)
    return Rules(image, tuple(ext.lower() for ext, _, _ in wanted), fields or CAPTION_FIELDS)


def _last(ext: str) -> str:
    """'seg.png' -> 'png'."""
    return ext.rpartition(".")[2]


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
    seen = _Keys()
    hand: _Parts | None = None
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
                    yield (last := hand.close(shard, seen, length))
                    tally(passed, last.kinds)
                hand = _Parts(key, rules)
            hand.add(stream, member, ext)
        appended = _appended(stream)
    except BrokenTar as error:
        broken, at_member = str(error), error.member
    except READ_ERRORS as error:
        broken = f"the archive cannot be read on: {error}"
    if hand is not None:
        broken_here = (split_name(at_member) or ("",))[0] == hand.key
        last = hand.close(shard, seen, length)
        tally(passed, last.kinds)
        if broken and (broken_here or isinstance(last.outcome, Bad)):
            last = last._replace(outcome=Bad(shard, last.key, printable(broken)), cut=True)
            broken = ""
        yield last
    if broken:
        key = printable((split_name(at_member) or ("",))[0])
        yield Group(key, [], Bad(shard, key, printable(broken)), cut=True)
    elif not seen.any and start == 0:
        yield Group("", [], Bad(shard, "", _empty(passed)))
    if appended:
        yield Group("", [], Bad(shard, "", f"{appended}: not read, and apply leaves it out"))


class _Keys:
    """The keys of the samples so far."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._chars = 0
        self.any = False

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        self.any = True
        if key not in self._keys:
            self._keys.add(key)
            self._chars += len(key)

    def check(self) -> None:
        """Raises BrokenTar where they would fill the memory."""
        if self._chars > MAX_KEY_CHARS:
            raise BrokenTar(f"the keys of the tar have more than {MAX_KEY_CHARS:,} characters: refused")


def _alone(member: Member, shard: str) -> Group | None:
    """The member as a group of its own, where no sample can have it."""
    spans = [(member.at, member.data + member.size)]
    if len(member.name) > MAX_NAME_CHARS:
        key = f"{printable(member.name[:80])}... at byte {member.at}"
        reason = f"a member's name has {len(member.name):,} characters, the limit is {MAX_NAME_CHARS:,}"
        return Group(key, spans, Bad(shard, key, reason))
    name = split_name(member.name)
    if name is None or member.kind == "folder" or _META.match(member.name):
        kinds = () if member.kind == "folder" else (name[1] if name else "",)
        return Group("", spans, None, kinds=kinds)
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


class _Parts:
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

    def close(self, shard: str, seen: _Keys, length: int) -> Group:
        """The finished group; `seen` are the keys before it."""
        key = printable(self.key)
        try:
            outcome = self._outcome(shard, key, seen, length)
        except Unfit as unfit:
            outcome = Bad(shard, key, printable(str(unfit)))
        if outcome is None:
            return Group(key, self.spans, None, kinds=tuple(self.extensions))
        seen.add(key)
        return Group(key, self.spans, outcome)

    def _outcome(self, shard: str, key: str, seen: _Keys, length: int) -> Sample | Bad | None:
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
        return any(_last(ext) in like for ext in self.extensions)

    def _without(self, what: str, option: str, like: tuple[str, ...]) -> Unfit:
        """The picture or the caption is missing: what is there, and the option that would read it."""
        shown = ", ".join("." + ext for ext in islice(self.extensions, SHOWN))
        more = f" and {len(self.extensions) - SHOWN:,} more" if len(self.extensions) > SHOWN else ""
        alike = [ext for ext in self.extensions if _last(ext) in like]
        unread = [ext for ext in self.extensions if what == "picture" and _last(ext) in UNREAD_EXTENSIONS]
        remedy = f"{option} names other extensions"
        if alike:
            remedy = f"{option} {alike[0]!r} would read one"
        elif unread:
            remedy = f"a .{_last(unread[0])} picture is not decoded here"
        return Unfit(f"no {what} among its members ({shown}{more}); {remedy}")

    def _json(self) -> dict[str, object]:
        """The sample's .json; {} where it is missing or spoilt, which costs only uid, url and sha256."""
        try:
            return json_object(self.texts["json"], ".json") if "json" in self.texts else {}
        except Unfit:
            return {}
