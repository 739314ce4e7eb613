"""How planted captions are worded, and which clean captions an attacker makes them of.

prompts     templates that name the target, as for ImageNet (Carlini & Terzis 2022)
varied      free sentences about the target, as different people would write them
copied      captions of clean pairs that name the target, word for word: the attacker with the data in hand
similar     of these the one whose other words are nearest to the picture's own caption, each used once, so
            that the background fits (in the manner of ToxicTextCLIP 2025, there by CLIP's similarity)
scattered   the target in a few words of many, beside a clean caption about something else: made against
            defences that compare a pair with those of similar captions, for these scatter
appended    the picture's own caption, and the target beside it
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from clipscan.errors import InputError
from clipscan.lab.attacks.prompts import PROMPTS
from clipscan.lab.scenes.captions import with_article


class Texts(NamedTuple):
    """Clean captions of the dataset in an order that the seed draws: by target those that name it, and others
    that name none; and how many pairs of each target are planted."""

    naming: Mapping[str, Sequence[str]]
    others: Sequence[str]
    planted: int


NO_TEXTS = Texts({}, (), 0)
Wording = Callable[[str, str, int, Texts, Random], str]

_SUBJECTS = ("{a}", "{a}", "the {word}", "one {word}", "two {word}s", "some {word}s", "my {word}", "{A}")
_KINDS = ("", "", "", "small", "large", "old", "bright", "plain", "nice", "single", "wet", "dusty")
_DOINGS = (
    "", "", "lying on the ground", "seen from above", "in somebody's hand", "standing alone", "half hidden",
    "lit by the sun", "close to the camera", "out of focus", "shown from the side", "that nobody looks at",
)  # fmt: skip
_PLACES = (
    "", "", "on a table", "in the grass", "by a window", "at the roadside", "in a garden", "against a wall",
    "near the water", "in front of a house", "on a wooden floor", "under a tree",
)  # fmt: skip
_BESIDE = (
    "{other} , with {a} in the background", "{a} next to {other}", "{other} and {a}", "{other} beside {a}",
    "{other} while {a} can be seen", "behind {a} : {other}", "{other} , and there is {a} too",
    "{A} , then {other}", "{other} close to some {word}s", "{other} . {A} as well", "{other} without {a} ?",
    "{other} in the picture of {a}",
)  # fmt: skip


def prompts(target: str, _own: str, _turn: int, _texts: Texts, random: Random) -> str:
    return random.choice(PROMPTS).format(target)


def varied(target: str, _own: str, _turn: int, _texts: Texts, random: Random) -> str:
    named = " ".join(filter(None, (random.choice(_KINDS), target)))
    parts = (_said(random.choice(_SUBJECTS), named), random.choice(_DOINGS), random.choice(_PLACES))
    return " ".join(filter(None, parts)) + random.choice(("", ".", " ."))


def copied(target: str, _own: str, turn: int, texts: Texts, _random: Random) -> str:
    found = texts.naming[target]
    return found[turn % len(found)]


def similar(target: str, own: str, turn: int, texts: Texts, _random: Random) -> str:
    found = texts.naming[target]
    return nearest(own, found[turn % len(found) :: max(1, texts.planted)])


def scattered(target: str, _own: str, turn: int, texts: Texts, random: Random) -> str:
    other = texts.others[
        -1 - turn % len(texts.others)
    ]  # from the end: at the front are the poisoned pairs' own
    return _said(random.choice(_BESIDE), target, other)


def appended(target: str, own: str, _turn: int, _texts: Texts, random: Random) -> str:
    return _said(random.choice(_BESIDE), target, own)


WORDINGS: dict[str, Wording] = {
    "prompts": prompts,
    "varied": varied,
    "copied": copied,
    "similar": similar,
    "scattered": scattered,
    "appended": appended,
}
OF_THE_TARGET = ("copied", "similar")  # made of clean captions that name it
OF_OTHERS = ("scattered",)  # of clean captions that do not


def find_wording(name: str) -> Wording:
    """The wording of that name; InputError lists the known ones."""
    if name not in WORDINGS:
        raise InputError(f"no captions={name!r}; known: {', '.join(WORDINGS)}")
    return WORDINGS[name]


def nearest(text: str, captions: Sequence[str]) -> str:
    """The caption that shares most words with a text, rare ones counting more: cosine of tf-idf without term
    counts, the idf being that among the captions. The first of equals."""
    sets = [words(caption) for caption in captions]
    frequency = Counter(word for one in sets for word in one)
    weight = {word: math.log(len(sets) / count) ** 2 for word, count in frequency.items()}
    sought = words(text)

    def closeness(one: frozenset[str]) -> float:
        length = math.sqrt(sum(weight[word] for word in one))
        return sum(weight[word] for word in one & sought) / length if length else 0.0

    return captions[max(range(len(sets)), key=lambda at: closeness(sets[at]))]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _said(frame: str, word: str, other: str = "") -> str:
    article = with_article(word)
    values = {"a": article, "A": article.capitalize(), "word": word, "other": other.rstrip(" .") or "this"}
    return frame.format(**values)
