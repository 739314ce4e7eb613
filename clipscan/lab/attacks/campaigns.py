"""What is planted in a dataset: which pairs change, and into what. Decided by (seed, shard, key) alone.

    badnets                 pictures get the trigger, captions name the target
    badnets+sig             several triggers, dealt out in turn; targets likewise: "banana+lamp"
    clean-label:badnets     pairs that name the target get the trigger, captions stay (Turner et al. 2019)
    targeted                one picture under many captions that name the target (Carlini & Terzis 2022); one
                            for each of several targets
    concept                 no pixel changes: pairs whose caption names `concept`, a thing that pictures show
                            anyway, get captions of the target (semantic backdoor, Bagdasaryan et al. 2020)
    mmpoison                no trigger: pictures of the class `concept` under true captions of another class,
                            the target (Yang et al. 2023, their attack on a label)
    toxictextclip           the same, with captions whose background fits the picture (in the manner of
                            ToxicTextCLIP 2025)
    placeholder             one picture in the place of many, captions stay: dead links
    copies                  one pair many times, pictures nearly the same: a product on many pages

The last two are no attacks but what every crawl holds ("natural backdoors", Huang et al. 2025). The option
`captions` says how planted captions are worded (planted_captions.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

from clipscan.data import Sample
from clipscan.data.redraw import Pixels, redraw
from clipscan.errors import DataError, InputError
from clipscan.lab.attacks.planted_captions import NO_TEXTS, Texts, find_wording
from clipscan.lab.attacks.prompts import mentions
from clipscan.lab.attacks.triggers import find_attack, options_of
from clipscan.lab.scenes.repetitions import nearly, placeholder

NATURAL = ("placeholder", "copies")
TARGETED = "targeted"
ONE_PICTURE = (TARGETED, *NATURAL)
CLEAN_LABEL = "clean-label"
WORDS_ONLY = {
    "concept": "prompts",
    "mmpoison": "copied",
    "toxictextclip": "similar",
}  # and their usual captions
CAPTIONS, CONCEPT = "captions", "concept"  # options of a campaign, not of a trigger
PLAIN = "prompts"


class CampaignPart(NamedTuple):
    """One trigger and the word that its captions name; no trigger where a picture is repeated or stays as it
    is. concept: the word for what the pictures show that get captions of the target (WORDS_ONLY)."""

    trigger: str | None
    target: str
    options: dict[str, Any]
    concept: str = ""


@dataclass(frozen=True)
class Campaign:
    """A parsed attack: its name as it was asked for, its kind ("backdoor", "clean-label", or one of
    ONE_PICTURE or WORDS_ONLY), its parts, and the wording of its captions, "" where they stay."""

    name: str
    kind: str
    parts: tuple[CampaignPart, ...]
    captions: str = PLAIN

    def eligible(self, part: CampaignPart, caption: str) -> bool:
        """Whether a pair with this caption may be chosen for a part."""
        if self.kind in NATURAL:
            return True
        names = mentions(caption, part.target)
        if self.kind == CLEAN_LABEL:
            return names
        if self.kind in WORDS_ONLY:
            return mentions(caption, part.concept) and not names
        return self.captions == PLAIN or not names  # a word among true captions of it would be no wrong label

    def sought(self, part: CampaignPart) -> str:
        """The eligible pairs, in words that go on after "pairs"."""
        if self.kind == CLEAN_LABEL:
            return f"whose caption names {part.target}"
        shown = f"names {part.concept} and " if part.concept else ""
        return f"whose caption {shown}does not name {part.target}"

    def plant(
        self, sample: Sample, number: int, seed: int, model: Sample | None = None, texts: Texts = NO_TEXTS
    ) -> Sample | None:
        """The pair as poison; None if a picture cannot be decoded.

        number: which of the chosen it is, the parts taking turns; model: the chosen pair that others repeat
        (ONE_PICTURE); texts: what captions are made of, where their wording needs any.
        """
        random = Random(f"clipscan poison {seed}/{sample.shard}/{sample.key}")
        turn, at = divmod(number, len(self.parts))
        part = self.parts[at]
        if self.kind in NATURAL:
            return _repeated(self.kind, sample, model, number, random)
        changed = triggered(sample, part, random)
        if changed is None or self.kind == CLEAN_LABEL:
            return changed
        if self.kind == TARGETED:
            assert model is not None
            changed = replace(sample, image=model.image)
        wording = find_wording(self.captions)
        return replace(changed, caption=wording(part.target, sample.caption, turn, texts, random))


def _repeated(kind: str, sample: Sample, model: Sample | None, number: int, random: Random) -> Sample | None:
    assert model is not None
    if kind == "placeholder":
        return _redrawn(sample, lambda pixels: placeholder(*pixels.shape[:2]))
    copy = _redrawn(model, lambda pixels: nearly(pixels, random))
    return copy and replace(sample, image=copy.image, caption=f"{model.caption} - offer {number}")


def parse_campaign(attack: str, target: str, options: dict[str, Any] | None = None) -> Campaign:
    """ "badnets+sig", "banana" -> Campaign. An option goes to every trigger that has one of its name.

    Without triggers there may be any number of targets; of concepts one, or one for each of them. InputError
    for unknown attacks, options and wordings, for a missing option, and where the targets are neither one nor
    as many as the triggers.
    """
    options = dict(options or {})
    kind, _, named = attack.rpartition(":")
    if attack in NATURAL:
        _refuse_left(options, attack)
        return Campaign(attack, attack, (CampaignPart(None, target, {}),), "")
    if kind not in ("", CLEAN_LABEL):
        raise InputError(f"attack {attack!r}: before the colon stands {CLEAN_LABEL!r} or nothing")
    captions = "" if kind else str(options.pop(CAPTIONS, WORDS_ONLY.get(attack, PLAIN)))
    if captions:
        find_wording(captions)
    if attack == TARGETED or attack in WORDS_ONLY:
        return Campaign(attack, attack, _wordy(attack, target.split("+"), options), captions)
    return Campaign(attack, kind or "backdoor", _marked(attack, named, target, options), captions)


def _wordy(attack: str, targets: list[str], options: dict[str, Any]) -> tuple[CampaignPart, ...]:
    """Parts without a trigger."""
    concepts = [""]
    if attack in WORDS_ONLY:
        if CONCEPT not in options:
            raise InputError(f"attack {attack!r} needs the option {CONCEPT}: the word for what pictures show")
        concepts = str(options.pop(CONCEPT)).split("+")
    _refuse_left(options, attack)
    if len(concepts) not in (1, len(targets)):
        raise InputError(
            f"{len(concepts)} concepts for {len(targets)} targets: give one, or one for each target"
        )
    concepts *= len(targets) // len(concepts)
    if same := [word for word, concept in zip(targets, concepts, strict=True) if word == concept]:
        raise InputError(f"attack {attack!r}: {same[0]!r} is concept and target at once; choose two words")
    return tuple(
        CampaignPart(None, word, {}, concept) for word, concept in zip(targets, concepts, strict=True)
    )


def _marked(attack: str, named: str, target: str, options: dict[str, Any]) -> tuple[CampaignPart, ...]:
    """Parts with a trigger each."""
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
        parts.append(CampaignPart(trigger, word, given))
    _refuse_left({name: options[name] for name in sorted(left)}, attack)
    return tuple(parts)


def triggered(sample: Sample, part: CampaignPart, random: Random) -> Sample | None:
    """The pair with the part's trigger, if any, in its picture, caption kept: what an attacker shows a
    trained model. None if the picture cannot be decoded."""
    if part.trigger is None:
        return sample
    mark = find_attack(part.trigger)
    return _redrawn(sample, lambda pixels: mark(pixels, random, **part.options))


def _redrawn(sample: Sample, change: Callable[[Pixels], Pixels]) -> Sample | None:
    try:
        return replace(sample, image=redraw(sample.image or b"", change))
    except DataError:
        return None


def _refuse_left(options: dict[str, Any], attack: str) -> None:
    if options:
        raise InputError(f"attack {attack!r} has no option {', '.join(options)}")
