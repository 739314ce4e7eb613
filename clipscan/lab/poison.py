"""Poison a dataset: some pairs are changed as a campaign says; the truth about them lies elsewhere.

    OUT/dataset/00000.tar ...   every pair again, under new keys; nothing in it tells which were changed
    OUT/truth.parquet           shard, key, attack, target of the poisoned ones
    OUT/poison.json             settings and counts, written last: with it the work is finished

Which pairs, where the trigger goes and what the caption says follow from (seed, shard, key) alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data import Dataset, Sample, Shard
from clipscan.data.atomic import replacing
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.campaigns import CLEAN_LABEL, Campaign, parse_campaign
from clipscan.lab.phrases import mentions
from clipscan.lab.tars import write_tar

Identity = tuple[str, str]  # (shard, key)


class Poisoned(NamedTuple):
    """What `poison` wrote, and how many pairs: readable ones, poisoned ones, those it had to leave out as
    unreadable, and clean ones whose caption names a target of its own accord."""

    dataset: Path
    truth: Path
    pairs: int
    poisoned: int
    unreadable: int
    mentions: int


def poison(
    source: Dataset,
    out: Path,
    *,
    attack: str = "badnets",
    rate: float = 0.005,
    target: str = "banana",
    seed: int = 0,
    **options: Any,
) -> Poisoned:
    """Copy `source` to OUT/dataset as tars with round(rate * pairs) of its pairs poisoned.

    attack, target: see lab/campaigns.py. `options` go to the trigger. A rate of 0 copies the pairs as they
    are. A drawn picture that cannot be decoded stays clean, so the count can be lower. What is finished
    with the same settings is returned as it is. InputError for a rate outside [0, 1), an unknown attack,
    or a clean-label attack with too few pairs that name the target; RunError when OUT holds one with other
    settings.
    """
    campaign = parse_campaign(attack, target, options)
    if not 0 <= rate < 1:
        raise InputError(f"rate is the share of pairs to poison, at least 0 and below 1; got {rate}")
    settings = {
        "source": source.source,
        "attack": attack,
        "rate": rate,
        "target": target,
        "seed": seed,
    } | options
    dataset, truth = out / "dataset", out / "truth.parquet"
    if (done := _finished(out, settings)) is not None:
        return Poisoned(dataset, truth, **done)
    census = _census(source, campaign, seed)
    chosen = _choose(census, rate, campaign)
    planted: list[dict[str, str]] = []
    for number, shard in enumerate(source.shards):
        name = f"{number:05d}.tar"

        def rewritten(shard: Shard = shard, number: int = number, name: str = name) -> Iterator[Sample]:
            readable = (sample for sample in source.read(shard) if isinstance(sample, Sample))
            for row, sample in enumerate(readable):
                key = f"{number:05d}{row:04d}"
                which = chosen.get((sample.shard, sample.key))
                changed = None if which is None else campaign.plant(sample, which, seed, census.model)
                if which is not None and changed is not None:
                    target = campaign.parts[which % len(campaign.parts)].target
                    planted.append({"shard": name, "key": key, "attack": attack, "target": target})
                yield replace(changed or sample, shard=name, key=key)

        write_tar(dataset / name, rewritten())
    _write_truth(truth, planted)
    counts = {"pairs": census.pairs, "poisoned": len(planted)}
    counts |= {"unreadable": census.unreadable, "mentions": census.mentions}
    _write(out / "poison.json", json.dumps({"settings": settings, "counts": counts}, indent=1).encode())
    return Poisoned(dataset, truth, **counts)


def _write_truth(path: Path, rows: list[dict[str, str]]) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("shard", "key", "attack", "target")])
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), table)
    _write(path, table.getvalue().to_pybytes())


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as (draft,):
        draft.write_bytes(content)


def read_truth(path: Path) -> Set[Identity]:
    """The identities of the poisoned pairs. DataError where the file is none of `poison`."""
    try:
        table = pq.read_table(path, columns=["shard", "key"])
        return frozenset(zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True))
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are the first two
        raise DataError(f"{path} is no truth.parquet of a poisoning: {error}") from error


def _finished(out: Path, settings: dict[str, Any]) -> dict[str, int] | None:
    """The counts of an earlier, finished poisoning with these settings; RunError for any other."""
    record = out / "poison.json"
    if record.exists():
        earlier = json.loads(record.read_bytes())
        if earlier["settings"] != settings:
            raise RunError(f"{out} was poisoned with other settings (see {record}); choose another folder")
        counts: dict[str, int] = earlier["counts"]
        return counts
    return None


class _Census(NamedTuple):
    """What the first pass over the source found. `drawn`: the pairs that may be chosen, first drawn first."""

    pairs: int
    unreadable: int
    mentions: int
    drawn: list[Identity]
    model: Sample | None  # the first drawn: what a campaign of one picture repeats


def _census(source: Dataset, campaign: Campaign, seed: int) -> _Census:
    lots: list[tuple[bytes, Identity]] = []
    pairs = unreadable = naming = 0
    model, least = None, b"\xff" * 33
    targets = {part.target for part in campaign.parts}
    for shard in source.shards:
        for sample in source.read(shard):
            if not isinstance(sample, Sample):
                unreadable += 1
                continue
            pairs += 1
            naming += any(mentions(sample.caption, target) for target in targets)
            if campaign.eligible(sample.caption):
                lot = _lot(seed, sample.shard, sample.key)
                lots.append((lot, (sample.shard, sample.key)))
                if lot < least:
                    model, least = sample, lot
    if not pairs:
        raise DataError(f"{source.source}: no readable pair to poison")
    return _Census(pairs, unreadable, naming, [identity for _, identity in sorted(lots)], model)


def _choose(census: _Census, rate: float, campaign: Campaign) -> Mapping[Identity, int]:
    """The first round(rate * n) pairs drawn, each with its number."""
    count = round(rate * census.pairs)
    if count > len(census.drawn):
        targets = ", ".join(sorted({part.target for part in campaign.parts}))
        raise InputError(
            f"{CLEAN_LABEL} needs {count:,} pairs whose caption names {targets}; there are "
            f"{len(census.drawn):,}; choose a lower rate or another target"
        )
    return {identity: number for number, identity in enumerate(census.drawn[:count])}


def _lot(seed: int, shard: str, key: str) -> bytes:
    """Seeded digest by which pairs are drawn, smallest first: the order of reading does not matter."""
    return hashlib.sha256(f"clipscan choose {seed}/{shard}/{key}".encode()).digest()
