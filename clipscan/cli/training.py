"""A training on the very data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clipscan.cli.option_groups import grouped
from clipscan.cli.options import Source
from clipscan.cli.training_options import CacheGB, Checkpoint, Drop, TrainingMethod, Truth
from clipscan.data import Dataset, Without
from clipscan.errors import InputError
from clipscan.run.options import Reading
from clipscan.train.options import Monitoring, Resources, Training
from clipscan.train.recipe import SafeClip, Watch
from clipscan.train.torchrun import launched
from clipscan.train.train import train_with


@grouped
def train(
    source: Source,
    out: Checkpoint,
    training: Training = Training(),
    method: TrainingMethod = "clip",
    drop: Drop = None,
    safeclip: SafeClip = SafeClip(),
    truth: Truth = None,
    cache_gb: CacheGB = None,
    reading: Reading = Reading(),
    resources: Resources = Resources(),
) -> None:
    """Train a CLIP on the very data to be scanned, which is what the method needs. Killed, it resumes.

    safeclip learns in spite of poison: pictures and captions for themselves first, then the pairs that fit.
    What it took for safe in each epoch lies in OUT.partition.jsonl (of OUT.safetensors). Several processes,
    one a GPU: torchrun --nproc-per-node N -m clipscan train ...; not run on a GPU yet.
    """
    from clipscan.run.places import refuse_checkpoint

    if method not in ("clip", "safeclip"):
        raise InputError(f"no method {method!r}; there are: clip, safeclip")
    dataset = reading.open(source)
    refuse_checkpoint(out, dataset)
    if drop is not None:
        dataset = _without(dataset, drop)
    speaks = launched()[0] == 0
    if speaks:
        print(dataset.describe())
    if method == "safeclip":
        training = replace(training, safeclip=safeclip)
    if cache_gb is not None:
        resources = replace(resources, cache_bytes=round(cache_gb * 1e9))
    monitoring = Monitoring(
        watch=_counting(truth) if truth else None, log=lambda line: print(line, flush=True)
    )
    train_with(dataset, out, training, resources, monitoring)
    if speaks:
        print(f"next: clipscan scan {source} --pretrained {out} --out RUN")


def _without(dataset: Dataset, drop: Path) -> Dataset:
    """The dataset without the pairs of a drop list."""
    from clipscan.report.write_lists import DropList

    left = Without(dataset, set(DropList.load(drop)))
    left.check()
    return left


def _counting(truth: Path) -> Watch:
    """A function that counts the pairs of a truth.parquet in each partition."""
    from clipscan.lab.attacks.poison_count import count_poison
    from clipscan.lab.attacks.poisoning import read_truth

    return count_poison(read_truth(truth))
