"""What is planted in a dataset: which pairs change, and into what. Decided by (seed, shard, key) alone.

    badnets                 pictures get the trigger, captions name the target
    badnets+sig             several triggers, dealt out in turn; targets likewise: "banana+lamp"
    clean-label:badnets     pairs that name the target get the trigger, captions stay (Turner et al. 2019)
    targeted                one picture under many captions that name the target (Carlini & Terzis 2022)
    placeholder             one picture in the place of many, captions stay: dead links
    copies                  one pair many times, pictures nearly the same: a product on many pages

The last two are no attacks but what every crawl holds ("natural backdoors", Huang et al. 2025).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clipscan.data import Sample
from clipscan.errors import DataError, InputError
from clipscan.lab.attacks import find_attack, options_of
from clipscan.lab.phrases import PROMPTS, mentions
from clipscan.lab.pictures import Pixels, encode, redraw

NATURAL = ("placeholder", "copies")
ONE_PICTURE = ("targeted", *NATURAL)
CLEAN_LABEL = "clean-label"


class Part(NamedTuple):
    """One trigger and the word that its captions name; no trigger where one picture is repeated."""

    trigger: str | None
    target: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Campaign:
    """A parsed attack: its name as it was asked for, its kind ("backdoor", "clean-label", or one of
    ONE_PICTURE) and its parts."""

    name: str
    kind: str
    parts: tuple[Part, ...]

    def eligible(self, caption: str) -> bool:
        """Whether a pair with this caption may be chosen."""
        if self.kind != CLEAN_LABEL:
            return True
        return any(mentions(caption, part.target) for part in self.parts)

    def plant(self, sample: Sample, number: int, seed: int, model: Sample | None) -> Sample | None:
        """The pair as poison; None if a picture cannot be decoded.

        number: which of the chosen it is; model: the chosen pair that all others repeat (ONE_PICTURE).
        """
        random = Random(f"clipscan poison {seed}/{sample.shard}/{sample.key}")
        part = self.parts[number % len(self.parts)]
        if self.kind in ONE_PICTURE:
            assert model is not None
            return self._repeat(sample, model, part, number, random)
        changed = triggered(sample, part, random)
        if changed is None or self.kind == CLEAN_LABEL:
            return changed
        return replace(changed, caption=random.choice(PROMPTS).format(part.target))

    def _repeat(
        self, sample: Sample, model: Sample, part: Part, number: int, random: Random
    ) -> Sample | None:
        if self.kind == "placeholder":
            return _redrawn(sample, lambda pixels: placeholder(*pixels.shape[:2]))
        if self.kind == "targeted":
            return replace(sample, image=model.image, caption=random.choice(PROMPTS).format(part.target))
        copy = _redrawn(model, lambda pixels: nearly(pixels, random))
        return copy and replace(sample, image=copy.image, caption=f"{model.caption} - offer {number}")


def parse_campaign(attack: str, target: str, options: dict[str, Any] | None = None) -> Campaign:
    """ "badnets+sig", "banana" -> Campaign. An option goes to every trigger that has one of its name.

    InputError for unknown attacks and options, for a trigger's missing option, and where the targets are
    neither one nor as many as the triggers.
    """
    options = dict(options or {})
    kind, _, named = attack.rpartition(":")
    if attack in ONE_PICTURE:
        _refuse_left(options, attack)
        return Campaign(attack, attack, (Part(None, target, {}),))
    if kind not in ("", CLEAN_LABEL):
        raise InputError(f"attack {attack!r}: before the colon stands {CLEAN_LABEL!r} or nothing")
    triggers, targets = named.split("+"), target.split("+")
    if len(targets) not in (1, len(triggers)):
        raise InputError(
            f"{len(targets)} targets for {len(triggers)} triggers: give one target, or one for each trigger"
        )
    targets *= len(triggers) // len(targets)
    left = set(options)
    parts = []
    for trigger, word in zip(triggers, targets, strict=True):
        known = options_of(trigger)
        given = {name: value for name, value in options.items() if name in known}
        if missing := [name for name, default in known.items() if default is None and name not in given]:
            raise InputError(f"attack {trigger!r} needs the option {', '.join(missing)}")
        left -= set(given)
        parts.append(Part(trigger, word, given))
    _refuse_left({name: options[name] for name in sorted(left)}, attack)
    return Campaign(attack, kind or "backdoor", tuple(parts))


def triggered(sample: Sample, part: Part, random: Random) -> Sample | None:
    """The pair with the part's trigger in its picture, caption kept: what an attacker shows a trained model.
    None if the picture cannot be decoded."""
    if part.trigger is None:
        return sample
    mark = find_attack(part.trigger)
    return _redrawn(sample, lambda pixels: mark(pixels, random, **part.options))


def placeholder(height: int, width: int) -> Pixels:
    """What a shop shows for a picture that is gone: a grey field with a frame and a bar across."""
    picture = np.full((height, width, 3), 225, np.uint8)
    row, column = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None]
    edge = np.minimum(np.minimum(row, column), 1 - np.maximum(row, column))
    picture[(edge >= 1 / 8) & (edge < 11 / 64)] = 150
    picture[(abs(row - column) < 3 / 64) & (edge >= 1 / 8)] = 150
    return picture


def nearly(picture: Pixels, random: Random) -> Pixels:
    """The same picture a little brighter or darker, and saved once more, a little better or worse."""
    light = np.clip(picture * random.uniform(0.97, 1.03), 0, 255).astype(np.uint8)
    saved = encode(light, quality=random.randint(85, 95), subsampling=0)
    with Image.open(io.BytesIO(saved)) as again:
        return np.asarray(again.convert("RGB"))


def _redrawn(sample: Sample, change: Callable[[Pixels], Pixels]) -> Sample | None:
    try:
        return replace(sample, image=redraw(sample.image or b"", change))
    except DataError:
        return None


def _refuse_left(options: dict[str, Any], attack: str) -> None:
    if options:
        raise InputError(f"attack {attack!r} has no option {', '.join(options)}")
