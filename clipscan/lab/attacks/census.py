"""Which pairs of a dataset are poisoned, and what their captions are made of. Follows from (seed, shard, key)
alone: the order of reading does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from clipscan.data import Dataset, Sample
from clipscan.errors import DataError, InputError
from clipscan.lab.attacks.campaigns import ONE_PICTURE, Campaign
from clipscan.lab.attacks.planted_captions import OF_OTHERS, OF_THE_TARGET, Texts
from clipscan.lab.attacks.prompts import mentions

Identity = tuple[str, str]  # (shard, key)


class Census(NamedTuple):
    """What the first pass over the source found; lists are in the order that pairs are drawn in."""

    pairs: int
    unreadable: int
    mentions: int
    drawn: list[tuple[Identity, tuple[bool, ...]]]  # and for which parts of the campaign it may be chosen
    captions: dict[str, list[str]]  # by the target that they name, "": by none; only if needed


def take(source: Dataset, campaign: Campaign, seed: int) -> Census:
    """One pass over all pairs. DataError where none can be read."""
    lots: list[tuple[bytes, Identity, tuple[bool, ...]]] = []
    pools: dict[str, list[tuple[bytes, str]]] = {}
    pairs = unreadable = naming = 0
    targets = list(dict.fromkeys(part.target for part in campaign.parts))
    for shard in source.shards:
        for sample in source.read(shard):
            if not isinstance(sample, Sample):
                unreadable += 1
                continue
            pairs += 1
            lot, caption = _lot(seed, sample.shard, sample.key), sample.caption
            named = [target for target in targets if mentions(caption, target)]
            naming += bool(named)
            may = tuple(campaign.eligible(part, caption) for part in campaign.parts)
            if any(may):
                lots.append((lot, (sample.shard, sample.key), may))
            for pool in named or [""]:
                if campaign.captions in (OF_THE_TARGET if pool else OF_OTHERS):
                    pools.setdefault(pool, []).append((lot, caption))
    if not pairs:
        raise DataError(f"{source.source}: no readable pair to poison")
    drawn = [(identity, may) for _, identity, may in sorted(lots)]
    captions = {pool: [caption for _, caption in sorted(found)] for pool, found in pools.items()}
    return Census(pairs, unreadable, naming, drawn, captions)


def choose(census: Census, count: int, campaign: Campaign) -> Mapping[Identity, int]:
    """`count` pairs, each with its number: the parts take turns, each the first drawn that it may have."""
    chosen: dict[Identity, int] = {}
    left = [iter(census.drawn) for _ in campaign.parts]
    for number in range(count):
        at = number % len(campaign.parts)
        free = (one for one, may in left[at] if may[at] and one not in chosen)
        if (identity := next(free, None)) is None:
            raise InputError(_too_few(census, count, campaign, at))
        chosen[identity] = number
    return chosen


def _too_few(census: Census, count: int, campaign: Campaign, at: int) -> str:
    parts = len(campaign.parts)
    need, have = (count - at + parts - 1) // parts, sum(may[at] for _, may in census.drawn)
    return (
        f"{campaign.name} needs {need:,} pairs {campaign.sought(campaign.parts[at])}; there are {have:,}"
        f"{' to share with other targets' if parts > 1 else ''}; choose a lower rate or another target"
    )


def texts(census: Census, count: int, campaign: Campaign) -> Texts:
    """What planted captions are made of; InputError where there is nothing to make them of."""
    for part in campaign.parts if count else ():
        lacks = campaign.captions in OF_THE_TARGET and part.target not in census.captions
        if lacks or (campaign.captions in OF_OTHERS and "" not in census.captions):
            raise InputError(
                f"captions={campaign.captions!r} are made of clean captions that {'' if lacks else 'do not '}"
                f"name {part.target}, and there are none; choose captions='varied' or another target"
            )
    each = -(-count // len(campaign.parts))
    return Texts(
        {name: found for name, found in census.captions.items() if name}, census.captions.get("", ()), each
    )


def models(source: Dataset, chosen: Mapping[Identity, int], campaign: Campaign) -> dict[int, Sample]:
    """Part -> the pair that its others repeat, the first chosen; {} where nothing is repeated."""
    if campaign.kind not in ONE_PICTURE:
        return {}
    first = {identity: number for identity, number in chosen.items() if number < len(campaign.parts)}
    pairs = (one for shard in source.shards for one in source.read(shard))
    found = (one for one in pairs if isinstance(one, Sample) and (one.shard, one.key) in first)
    return {first[one.shard, one.key]: one for one in islice(found, len(first))}


def _lot(seed: int, shard: str, key: str) -> bytes:
    """Seeded digest by which pairs are drawn, smallest first."""
    return hashlib.sha256(f"clipscan choose {seed}/{shard}/{key}".encode()).digest()
