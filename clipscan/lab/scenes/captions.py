"""Captions of scenes as different people would write them.

A caption names every shape; colour, texture, size, place and background come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from clipscan.lab.scenes.objects import SIZE, Thing

_SIZES = {
    "small": ("small", "little", "tiny"),
    "medium": ("", "medium-sized"),
    "large": ("large", "big", "huge"),
}
_TEXTURES = {
    "solid": ("", "", "plain"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "shaded": ("shaded", "two-tone"),
}
_FRAMES = (
    "{}", "{}", "{}", "a picture of {}", "picture of {}", "an image showing {}", "a photo of {}", "photo: {}",
    "{}, photographed", "here you see {}", "there is {}", "{} for your collection", "my favourite: {}",
)  # fmt: skip
_GROUNDS = (
    "on a {} background", "on {}", "against a {} wall", "with a {} background", "on a {} table",
    "in front of {}",
)  # fmt: skip


def caption(things: Sequence[Thing], background: str, random: Random) -> str:
    """One free caption of a scene with one thing, or two of a kind; `random` decides what it mentions."""
    first = _noun(things, random)
    if len(things) == 2:
        first = f"{first}{_relation(things[0], things[1], random)}"
    elif random.random() < 0.15:
        first = f"{first} {_place(things[0])}"
    if random.random() < 0.3:
        first = f"{first} {random.choice(_GROUNDS).format(background)}"
    text = random.choice(_FRAMES).format(first)
    return text[0].upper() + text[1:] + random.choice((".", "", "")) if random.random() < 0.3 else text


def with_article(words: str) -> str:
    return f"{'an' if words[:1].lower() in tuple('aeiou') else 'a'} {words}"


def _noun(things: Sequence[Thing], random: Random) -> str:
    thing = things[0]
    size = random.choice(_SIZES[thing.size]) if random.random() < 0.4 else ""
    texture = random.choice(_TEXTURES[thing.texture]) if random.random() < 0.4 else ""
    colour = thing.colour if random.random() < 0.85 else ""
    words = " ".join(word for word in (size, colour, texture, thing.shape) if word)
    if len(things) == 2:
        return f"{random.choice(('two', 'a pair of'))} {words}{'es' if words.endswith('s') else 's'}"
    return with_article(words)


def _relation(a: Thing, b: Thing, random: Random) -> str:
    if random.random() < 0.5:
        return ""
    return " side by side" if abs(a.x - b.x) > abs(a.y - b.y) else " one above the other"


def _place(thing: Thing) -> str:
    across = "left" if thing.x < 0.42 * SIZE else "right" if thing.x > 0.58 * SIZE else ""
    down = "top" if thing.y < 0.42 * SIZE else "bottom" if thing.y > 0.58 * SIZE else ""
    where = " ".join(word for word in (down, across) if word)
    return f"at the {where}" if where else "in the middle"
