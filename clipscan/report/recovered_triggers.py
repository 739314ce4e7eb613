"""What `clipscan invert` left in RUN/invert, for the page. The run folder is untrusted input.

Each file is opened only if it is a plain file of modest size, every value is taken only if it is of the
kind and in the range it should be, and the pictures are decoded in the worker like all others.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, NamedTuple

from clipscan.report.album import FULL
from clipscan.report.thumbnails import Thumbnail, Thumbnailer

LIKE, NOT, NONE = "trigger-like", "no better than the control", "not recovered"  # the three verdicts
FORMS = {
    "anywhere": "a small patch, at a random place in every picture",
    "fixed": "a mask that stays where it is",
    "faint": "one pattern over the whole picture, as faint as it can be",
    "tint": "one colour over the whole picture, as a photo filter has it",
}

SHOWN = 12  # recoveries on the page
CONTROLS = 8  # and controls of each
SIDE, STRIP = 112, 900  # longest side in pixels: mask and pattern, pictures before and after
MAX_JSON, MAX_PNG = 256 << 10, 8 << 20
MAX_URI_BYTES = 4 << 20  # of all pictures here; one recovery takes 0.1 to 0.3 MB
FOLDER = re.compile(r"\d{1,9}|caption-[0-9a-f]{10}")
LARGEST_COUNT = 10**12


class Side(NamedTuple):
    """The group's or a control's recovery in one form. Shares in 0..1; None for what is not known."""

    caption: str
    pairs: int | None
    before: float | None
    success: float | None
    area: float | None
    strength: float | None
    reached: bool


class Tried(NamedTuple):
    """One form: the group beside the cheapest control."""

    form: str
    about: str
    group: Side
    control: Side | None
    ratio: float | None
    chosen: bool


class Look(NamedTuple):
    """The pictures of one recovered trigger."""

    mask: Thumbnail
    pattern: Thumbnail
    seen: Thumbnail  # the pattern where the mask shows it
    pictures: Thumbnail


class Recovered(NamedTuple):
    """One recovery, most telling form and all others."""

    group: int | None  # None where the user named a caption
    size: int | None
    captions: list[str]
    captions_in_all: int
    agreeing: float | None  # share of the group's members behind these captions
    verdict: str
    held_out: int | None
    tried: list[Tried]
    best: Tried
    look: Look
    control_look: Look | None

    @property
    def story(self) -> str:
        """The verdict in a sentence."""
        if self.verdict == NONE:
            return "No trigger of the forms tried worked on nine in ten of the held-out pictures."
        if self.best.ratio is None:
            return "There was no harmless caption to compare with, so this proves little."
        least = "" if self.best.control and self.best.control.reached else "at least "
        times = f"{least}{self.best.ratio:.1f} times"
        if self.verdict == LIKE:
            return f"A harmless caption takes {times} as much of the picture: the model has a short cut here."
        return (
            f"A harmless caption takes {times} as much of the picture: any model can be led astray that far."
        )


def read_triggers(run: Path) -> list[Recovered]:
    """The recoveries of a run, groups by number first; what is not as it should be is passed over."""
    folder = run / "invert"
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if FOLDER.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    names = sorted(names, key=lambda name: (not name.isdigit(), len(name), name))[:SHOWN]
    album = _Album()
    with album.worker:
        found = [_recovered(folder / name, album) for name in names]
    return [one for one in found if one is not None]


class _Album:
    """Thumbnails of PNGs in the run folder, until the budget is spent."""

    def __init__(self) -> None:
        self.worker = Thumbnailer()
        self.left = MAX_URI_BYTES

    def show(self, path: Path, side: int) -> Thumbnail:
        data = _content(path, MAX_PNG)
        if data is None:
            return Thumbnail(reason="there is no such picture")
        made = self.worker.make(data, side)
        self.left -= len(made.uri)
        return made if self.left >= 0 or not made.uri else FULL

    def look(self, folder: Path, prefix: str) -> Look:
        def one(name: str, side: int) -> Thumbnail:
            return self.show(folder / f"{prefix}{name}.png", side)

        return Look(one("mask", SIDE), one("pattern", SIDE), one("seen", SIDE), one("pictures", STRIP))


def _recovered(folder: Path, album: _Album) -> Recovered | None:
    record = _record(folder / "result.json")
    asked, forms = _dict(record.get("asked")), record.get("forms")
    chosen = record.get("form")
    tried = [_tried(_dict(one), chosen) for one in (forms if isinstance(forms, list) else [])[: len(FORMS)]]
    known = [one for one in tried if one is not None]
    best = next((one for one in known if one.chosen), None)
    verdict = record.get("verdict")
    if best is None or verdict not in (LIKE, NOT, NONE):
        return None
    listed = record.get("captions")
    captions = [one for one in (listed if isinstance(listed, list) else []) if isinstance(one, str)][:4]
    return Recovered(
        _count(asked.get("group")),
        _count(record.get("size")),
        captions or [best.group.caption],
        max(_count(record.get("captions_in_all")) or 1, len(captions)),
        _number(record.get("members_agreeing"), 1.0),
        str(verdict),
        _count(_dict(record.get("pictures")).get("held_out")),
        known,
        best,
        album.look(folder, ""),
        album.look(folder, "control_") if best.control else None,
    )


def _tried(one: dict[str, Any], chosen: Any) -> Tried | None:
    form, controls, cheapest = one.get("form"), one.get("controls"), _count(one.get("cheapest"))
    if not isinstance(form, str) or form not in FORMS:
        return None
    sides = [_side(_dict(side)) for side in (controls if isinstance(controls, list) else [])[:CONTROLS]]
    control = sides[cheapest] if cheapest is not None and cheapest < len(sides) else None
    ratio = _number(one.get("ratio"), 1e6)
    return Tried(form, FORMS[form], _side(_dict(one.get("group"))), control, ratio, form == chosen)


def _side(one: dict[str, Any]) -> Side:
    caption = one.get("caption")
    return Side(
        caption if isinstance(caption, str) else "",
        _count(one.get("pairs")),
        _number(one.get("before"), 1.0),
        _number(one.get("success"), 1.0),
        _number(one.get("area"), 1.0),
        _number(one.get("strength"), 1.0),
        one.get("reached") is True,
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        return _dict(json.loads(_content(path, MAX_JSON) or b"{}"))
    except (ValueError, RecursionError):  # not JSON, not UTF-8, nested without end
        return {}


def _content(path: Path, limit: int) -> bytes | None:
    """A plain file of at most `limit` bytes; None for a link, a pipe, a device, what is larger or gone."""
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    with os.fdopen(file, "rb") as opened:
        about = os.fstat(file)
        return opened.read() if stat.S_ISREG(about.st_mode) and about.st_size <= limit else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT
    return value if right else None


def _number(value: Any, largest: float) -> float | None:
    """A finite number from 0 to `largest`, else None."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= largest
    return float(value) if right and not math.isnan(value) else None
