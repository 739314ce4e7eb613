"""Poison a dataset: some pictures get a trigger, their captions name a target; the truth lies elsewhere.

    OUT/dataset/00000.tar ...   every pair again, under new keys; nothing in it tells which were changed
    OUT/truth.parquet           shard, key, attack, target of the poisoned ones
    OUT/poison.json             settings and counts, written last: with it the work is finished

Which pairs, where the trigger goes and what the caption says follow from (seed, shard, key) alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data import Dataset, Sample, Shard
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks import find_attack
from clipscan.lab.phrases import PROMPTS, mentions
from clipscan.lab.pictures import redraw
from clipscan.lab.tars import write_tar
from clipscan.run.files import replacing

Identity = tuple[str, str]  # (shard, key)


class Poisoned(NamedTuple):
    """What `poison` wrote, and how many pairs: readable ones, poisoned ones, those it had to leave out as
    unreadable, and clean ones whose caption names the target of its own accord."""

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

    `options` go to the attack. A drawn picture that cannot be decoded stays clean, so the count can be
    lower. What is finished with the same settings is returned as it is. InputError for a rate outside
    (0, 1) or an unknown attack; RunError when OUT holds one with other settings.
    """
    find_attack(attack)
    if not 0 < rate < 1:
        raise InputError(f"rate is the share of pairs to poison, between 0 and 1; got {rate}")
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
    pairs, unreadable, naming = _census(source, target)
    chosen = _choose(pairs, rate, seed)
    planted: list[dict[str, str]] = []
    for number, shard in enumerate(source.shards):
        name = f"{number:05d}.tar"

        def rewritten(shard: Shard = shard, number: int = number, name: str = name) -> Iterator[Sample]:
            readable = (sample for sample in source.read(shard) if isinstance(sample, Sample))
            for row, sample in enumerate(readable):
                key = f"{number:05d}{row:04d}"
                picked = (sample.shard, sample.key) in chosen
                changed = poisoned(sample, attack, target, seed, **options) if picked else None
                if changed is not None:
                    planted.append({"shard": name, "key": key, "attack": attack, "target": target})
                yield replace(changed or sample, shard=name, key=key)

        write_tar(dataset / name, rewritten())
    _write_truth(truth, planted)
    counts = {"pairs": len(pairs), "poisoned": len(planted), "unreadable": unreadable, "mentions": naming}
    _write(out / "poison.json", json.dumps({"settings": settings, "counts": counts}, indent=1).encode())
    return Poisoned(dataset, truth, **counts)


def poisoned(sample: Sample, attack: str, target: str, seed: int, **options: Any) -> Sample | None:
    """The pair with a trigger and a caption that names the target; None if its picture cannot be decoded."""
    random = Random(f"clipscan poison {seed}/{sample.shard}/{sample.key}")
    changed = triggered(sample, attack, random, **options)
    return changed and replace(changed, caption=random.choice(PROMPTS).format(target))


def triggered(sample: Sample, attack: str, random: Random, **options: Any) -> Sample | None:
    """The pair with a trigger in its picture, caption kept: what an attacker shows a trained model."""
    mark = find_attack(attack)
    try:
        image = redraw(sample.image or b"", lambda pixels: mark(pixels, random, **options))
        return replace(sample, image=image)
    except DataError:
        return None


def _write_truth(path: Path, rows: list[dict[str, str]]) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("shard", "key", "attack", "target")])
    table = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), table)
    _write(path, table.getvalue().to_pybytes())


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as (draft,):
        draft.write_bytes(content)


def read_truth(path: Path) -> Set[Identity]:
    """The identities of the poisoned pairs."""
    table = pq.read_table(path, columns=["shard", "key"])
    return frozenset(zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True))


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


def _census(source: Dataset, target: str) -> tuple[list[Identity], int, int]:
    """(readable pairs, number of unreadable ones, number of captions that name the target already)."""
    pairs: list[Identity] = []
    unreadable = naming = 0
    for shard in source.shards:
        for sample in source.read(shard):
            if isinstance(sample, Sample):
                pairs.append((sample.shard, sample.key))
                naming += mentions(sample.caption, target)
            else:
                unreadable += 1
    if not pairs:
        raise DataError(f"{source.source}: no readable pair to poison")
    return pairs, unreadable, naming


def _choose(pairs: list[Identity], rate: float, seed: int) -> Set[Identity]:
    """The round(rate * n) pairs whose seeded digest is smallest: the order of reading does not matter."""

    def digest(pair: Identity) -> bytes:
        return hashlib.sha256(f"clipscan choose {seed}/{pair[0]}/{pair[1]}".encode()).digest()

    return frozenset(sorted(pairs, key=digest)[: round(rate * len(pairs))])
