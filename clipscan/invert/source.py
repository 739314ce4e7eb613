"""What the recovery needs of a run: its encoder, its captions, a group, clean pictures to try things on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipscan.data import Dataset
from clipscan.embed.model import Encoder, load_encoder
from clipscan.engine import Rows
from clipscan.engine.arrays import normalised
from clipscan.errors import DataError, InputError, RunError
from clipscan.invert.caption_families import POOL, DistinctCaptions, Floats
from clipscan.invert.search import Clean
from clipscan.run import Run
from clipscan.run.markers import check_intact
from clipscan.run.run_folder import run_record

Identity = tuple[str, str]  # (shard, key)

SEARCH, CHOOSE, HELD_OUT = 700, 300, 1000  # pictures wanted of each kind
FEWEST = 40  # held-out pictures below which a share means nothing (a tenth of them is four pictures)
SPARE = 1.5  # pictures drawn for each one wanted: some cannot be read, some have the target's own captions
SHARDS = 32  # of the dataset that the pictures come from; each has to be opened


class SuspectGroup(NamedTuple):
    """A row of groups.parquet. `members`: those listed there, which of a large group are not all."""

    number: int
    size: int
    captions: Counter[str]
    members: frozenset[Identity]


class ScannedRun(NamedTuple):
    """A run with its dataset: names [n] of the embedded samples, caption vectors in the same order."""

    names: list[dict[str, Any]]  # shard, key, caption, at
    text: Rows
    dataset: Dataset


def open_scanned_run(run: Run) -> ScannedRun:
    """RunError where the run lacks what a recovery needs: pictures, or captions."""
    record = run_record(run.path)
    if "weights_sha256" not in record.get("embed", {}):
        raise RunError(
            f"{run.path} was made from precomputed embeddings: there is no model that a trigger could be "
            "recovered from, and no pictures to try it on. Scan the pictures with the model that gave the "
            "embeddings: clipscan scan PICTURES --pretrained FILE --out OTHER"
        )
    text = run.vectors.text
    names = run.names("shard", "key", "caption", "at").to_pylist()
    if text is None or not any(one["caption"] for one in names):
        raise RunError(f"{run.path} has no captions, so there is nothing that a trigger could lead to")
    return ScannedRun(names, text, run.dataset)


def open_encoder(run: Run, model: str | None, pretrained: str | None, device: str = "auto") -> Encoder:
    """The encoder that the run was embedded with; where nothing is named, as run.json recorded it.

    RunError where other weights are found than those that made the run's vectors.
    """
    record = run_record(run.path)
    embed, recorded = record.get("embed", {}), record.get("encoder", {})
    pretrained = pretrained or recorded.get("pretrained")
    model = model or recorded.get("model") or embed.get("model")
    if pretrained is None:
        raise InputError(f"{run.path} does not record where its checkpoint lies; name it with --pretrained")
    encoder = load_encoder(model, str(pretrained), device=device)
    if encoder.weights_hash != embed.get("weights_sha256"):
        raise RunError(
            f"the weights of {pretrained} (sha256 {encoder.weights_hash[:12]}...) are not those that "
            f"{run.path} was embedded with ({str(embed.get('weights_sha256'))[:12]}...): name the checkpoint "
            "of the run with --pretrained, or scan again with this one"
        )
    return encoder


def read_group(run: Path, number: int) -> SuspectGroup:
    """RunError where the run has no such group."""
    path = run / "groups.parquet"
    if not path.exists():
        raise RunError(f"{run} has no groups.parquet; run clipscan scan to its end, or name a --caption")
    columns = ["group", "size", "members"]
    check_intact(path)
    rows = pq.read_table(path, columns=columns, filters=[("group", "==", number)]).to_pylist()
    if not rows:
        known = pq.read_table(path, columns=["group"])["group"].to_pylist()
        has = f"its groups are {min(known)} to {max(known)}" if known else "it has none"
        raise RunError(f"{path} has no group {number}: {has}. Or name a caption: --caption TEXT")
    members = rows[0]["members"] or []
    captions = Counter(one["caption"] for one in members if one["caption"])
    if not captions:
        raise RunError(f"group {number} of {run} has no captions; name one with --caption TEXT")
    identities = frozenset((one["shard"], one["key"]) for one in members)
    return SuspectGroup(number, int(rows[0]["size"]), captions, identities)


def read_captions(source: ScannedRun, seed: int) -> DistinctCaptions:
    """The dataset's distinct captions, or POOL of them drawn at random."""
    count = Counter(one["caption"] for one in source.names)
    first = {one["caption"]: row for row, one in reversed(list(enumerate(source.names)))}
    captions = [caption for caption in count if caption]
    drawn = Random(f"clipscan words {seed}").sample(captions, min(POOL, len(captions)))
    text = normalised(source.text.take(np.array([first[caption] for caption in drawn], np.int64)))
    pairs = np.array([count[caption] for caption in drawn], np.int64)
    scale = sum(count[caption] for caption in captions) / int(pairs.sum())
    return DistinctCaptions(drawn, pairs, text, text.mean(axis=0), scale)


def clean_pictures(
    source: ScannedRun,
    encoder: Encoder,
    members: frozenset[Identity],
    usual: Callable[[Floats], Any],
    seed: int,
) -> Clean:
    """Pictures outside the group, drawn at random, in three parts.

    usual: says of normalised caption vectors [n, d] which are none of the target's or of a control's:
    pictures that carry such a caption would be found there without any trigger. DataError where too few
    are left.
    """
    random = Random(f"clipscan clean {seed}")
    wanted = SEARCH + CHOOSE + HELD_OUT
    rows = np.array(_rows(source, members, round(SPARE * wanted), random), np.int64)
    fitting = rows[usual(normalised(source.text.take(rows)))] if len(rows) else rows
    pixels = _decoded(source, encoder, fitting.tolist(), wanted)
    parts = [len(pixels) * part // wanted for part in (SEARCH, SEARCH + CHOOSE)]
    clean = Clean(pixels[: parts[0]], pixels[parts[0] : parts[1]], pixels[parts[1] :])
    if len(clean.held_out) < FEWEST:
        raise DataError(
            f"{source.dataset.source}: only {len(pixels)} readable pictures are neither in the group nor "
            f"captioned like it or its controls, of which {len(clean.held_out)} would be held out; a share "
            f"of fewer than {FEWEST} means nothing"
        )
    return clean


def _rows(source: ScannedRun, members: frozenset[Identity], count: int, random: Random) -> list[int]:
    """Up to `count` rows outside the group, from a few shards, in random order."""
    shards = sorted({one["shard"] for one in source.names})
    some = set(random.sample(shards, min(SHARDS, len(shards))))
    rows = [
        row
        for row, one in enumerate(source.names)
        if one["shard"] in some and (one["shard"], one["key"]) not in members
    ]
    return random.sample(rows, min(count, len(rows)))


def _decoded(source: ScannedRun, encoder: Encoder, rows: Sequence[int], wanted: int) -> NDArray[np.uint8]:
    """Pixels [<= wanted, S, S, 3] of the first of these rows that can be read, in their order."""
    from clipscan.embed.decode_pool import DecodePool, decode_all

    order = {(source.names[row]["shard"], source.names[row]["key"]): i for i, row in enumerate(rows)}
    asked: dict[str, dict[str, int]] = {}
    for row in rows:
        one = source.names[row]
        asked.setdefault(one["shard"], {})[one["key"]] = -1 if one["at"] is None else one["at"]
    shards = {shard.name: shard for shard in source.dataset.shards}
    found: dict[int, NDArray[np.uint8]] = {}
    with DecodePool() as pool:
        for name in sorted(asked.keys() & shards.keys()):
            for outcome in decode_all(source.dataset.fetch(shards[name], asked[name]), encoder.spec, pool):
                if isinstance(outcome, tuple):
                    sample, pixels = outcome
                    found[order[sample.shard, sample.key]] = pixels
    size = encoder.image_size
    return np.array([found[i] for i in sorted(found)[:wanted]], np.uint8).reshape(-1, size, size, 3)
