"""Poison a dataset: some pairs are changed as a campaign says; the truth about them lies elsewhere.

    OUT/dataset/00000.tar ...   every pair again, under new keys; nothing in it marks the changed ones
    OUT/truth.parquet           shard, key, attack, target of the poisoned ones
    OUT/poison.json             settings and counts, written last: with it the work is finished

Which pairs (census.py), where the trigger goes and what the caption says follow from (seed, shard, key)
and, where captions are made of those of other pairs, from these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data import Dataset, Sample, Shard
from clipscan.data.atomic import write_bytes
from clipscan.data.tar_writer import write_tar
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks.campaigns import parse_campaign
from clipscan.lab.attacks.census import Identity, choose, models, take, texts

_TRUTH = ("shard", "key", "attack", "target")


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
    pairs: int | None = None,
    **options: Any,
) -> Poisoned:
    """Copy `source` to OUT/dataset as tars with round(rate * pairs) of its pairs poisoned.

    attack, target, options: see campaigns.py. pairs: so many for each target, whatever the rate. A rate
    of 0 copies the pairs as they are. A drawn picture that cannot be decoded stays clean, so the count can be
    lower. What is finished with the same settings is returned as it is. InputError for a rate outside [0, 1),
    an unknown attack, too few pairs that may be changed, or captions made of others where there are none;
    RunError when OUT holds one with other settings.
    """
    campaign = parse_campaign(attack, target, options)
    if not 0 <= rate < 1:
        raise InputError(f"rate is the share of pairs to poison, at least 0 and below 1; got {rate}")
    if pairs is not None and pairs < 0:
        raise InputError(f"pairs is how many to poison for each target, at least 0; got {pairs}")
    settings = {"source": source.source, "attack": attack, "rate": rate, "target": target, "seed": seed}
    settings |= options | ({} if pairs is None else {"pairs": pairs})
    dataset, truth = out / "dataset", out / "truth.parquet"
    if (done := _finished(out, settings)) is not None:
        return Poisoned(dataset, truth, **done)
    census = take(source, campaign, seed)
    count = round(rate * census.pairs) if pairs is None else pairs * len(campaign.parts)
    chosen = choose(census, count, campaign)
    pool, first = texts(census, count, campaign), models(source, chosen, campaign)
    planted: list[dict[str, str]] = []
    for number, shard in enumerate(source.shards):
        name = f"{number:05d}.tar"

        def rewritten(shard: Shard = shard, number: int = number, name: str = name) -> Iterator[Sample]:
            readable = (sample for sample in source.read(shard) if isinstance(sample, Sample))
            for at, sample in enumerate(readable):
                key = f"{number:05d}{at:04d}"
                which = chosen.get((sample.shard, sample.key))
                changed = None
                if which is not None:
                    part = which % len(campaign.parts)
                    changed = campaign.plant(sample, which, seed, first.get(part), pool)
                    row = {"shard": name, "key": key, "attack": attack, "target": campaign.parts[part].target}
                    planted.extend([row] if changed else [])
                yield replace(changed or sample, shard=name, key=key)

        write_tar(dataset / name, rewritten())
    _write_truth(truth, planted)
    counts = {"pairs": census.pairs, "poisoned": len(planted)}
    counts |= {"unreadable": census.unreadable, "mentions": census.mentions}
    write_bytes(out / "poison.json", json.dumps({"settings": settings, "counts": counts}, indent=1).encode())
    return Poisoned(dataset, truth, **counts)


def _write_truth(path: Path, rows: list[dict[str, str]]) -> None:
    schema = pa.schema([(name, pa.string()) for name in _TRUTH])
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), table)
    write_bytes(path, table.getvalue().to_pybytes())


def read_truth(path: Path) -> Set[Identity]:
    """The identities of the poisoned pairs. DataError where the file is none of `poison`."""
    return frozenset(read_targets(path))


def read_targets(path: Path) -> dict[Identity, str]:
    """The poisoned pairs, each with its target. Errors as of read_truth."""
    try:
        table = pq.read_table(path, columns=["shard", "key", "target"])
        shard, key, target = (table[name].to_pylist() for name in table.column_names)
        return dict(zip(zip(shard, key, strict=True), target, strict=True))
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
