"""The first pass over a dataset: how many pairs can be read, and, if they fit, their pixels in one file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipscan.data.atomic import replacing, save_array, write_bytes
from clipscan.data.dataset import Dataset
from clipscan.data.sample import Bad, Sample
from clipscan.embed.decode_pool import DecodePool, decode_all
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import DataError

PIXELS, CAPTION, CAPTIONS, SURVEY = "pixels.u8", "caption.npy", "captions.json", "survey.json"
IDENTITIES = "identities.json"  # [shard, key] of each row of the pixels
FILES = (PIXELS, CAPTION, CAPTIONS, IDENTITIES, SURVEY)
NAMED = 5  # how many unreadable samples the log names
LOG_SECONDS = 30.0  # a pass that takes longer logs in between

Log = Callable[[str], None]


class Survey(NamedTuple):
    """What the first pass over the dataset found; `cached` when its pixels are in the folder."""

    cached: bool
    pairs: int
    bad: int


def survey(
    dataset: Dataset,
    folder: Path,
    spec: PixelSpec,
    pool: DecodePool,
    *,
    budget: int,
    fingerprint: str,
    log: Log,
) -> Survey:
    """One pass over the dataset, decoding into `folder` up to `budget` bytes.

    A finished earlier pass over the same data is reused.

    Raises DataError when there is nothing to learn from.
    """
    done = folder / SURVEY
    if done.exists():
        said = json.loads(done.read_text())
        if said.pop("fingerprint") == fingerprint:
            return Survey(**said)
    found = _decode_into(folder, dataset, spec, pool, budget, log)
    if not found.pairs:
        raise DataError(
            f"nothing to train on in {dataset.source}: {len(dataset.shards)} shards, no readable pair, "
            f"{found.bad} unreadable; the log above names the first of them"
        )
    write_bytes(done, json.dumps({**found._asdict(), "fingerprint": fingerprint}).encode())
    return found


def _decode_into(
    folder: Path, dataset: Dataset, spec: PixelSpec, pool: DecodePool, budget: int, log: Log
) -> Survey:
    read = bad = decoded = 0

    def samples() -> Iterator[Sample | Bad]:
        nonlocal read
        for one in chain.from_iterable(dataset.read(shard) for shard in dataset.shards):
            read += 1
            yield one

    everything = samples()
    number: dict[str, int] = {}
    caption: list[int] = []
    identity: list[tuple[str, str]] = []
    spoke = time.monotonic()
    with replacing(folder / PIXELS) as (draft,), draft.open("wb") as file:
        for one in decode_all(everything, spec, pool):
            if isinstance(one, Bad):
                bad += 1
                if bad <= NAMED:
                    log(_printable(f"left out: {one.shard} {one.key}: {one.reason}"))
                continue
            if (decoded + 1) * spec.nbytes > budget:
                draft.unlink()
                break
            file.write(one[1].data)
            caption.append(number.setdefault(one[0].caption, len(number)))
            identity.append((one[0].shard, one[0].key))
            decoded += 1
            if time.monotonic() - spoke > LOG_SECONDS:
                spoke = time.monotonic()
                log(f"decoded {decoded:,} pictures")
        else:
            write_bytes(folder / CAPTIONS, json.dumps(list(number)).encode())
            write_bytes(folder / IDENTITIES, json.dumps(identity).encode())
            with replacing(folder / CAPTION) as (array,):
                save_array(array, np.array(caption, np.int64))
            return Survey(True, decoded, bad)
    (folder / PIXELS).unlink(missing_ok=True)  # of other data
    for _ in everything:  # the rest is only counted: the schedule needs the number
        pass
    log(f"{read} samples exceed the {budget / 1e9:.1f} GB for decoded pixels: decoding again in every epoch")
    return Survey(False, read - bad, bad)


def _printable(line: str) -> str:
    """Names come from the dataset: no control character of theirs reaches a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
