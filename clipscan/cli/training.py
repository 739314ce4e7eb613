"""A training on the very data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipscan.cli.option_groups import grouped
from clipscan.cli.options import Source
from clipscan.errors import InputError
from clipscan.run.options import Encoding, Reading

if TYPE_CHECKING:
    from clipscan.train.recipe import Watch


@grouped
def train(
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", help="the checkpoint, a .safetensors file", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="clipscan-conv-32 or -64 for small pictures, or any open_clip name",
            show_default="clipscan-conv-32, or that of --init",
        ),
    ] = None,
    init: Annotated[Path | None, typer.Option(exists=True, help="go on from this checkpoint")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="passes over all pairs", show_default="10 to 30, for 2,000 steps")
    ] = None,
    batch_size: Annotated[int, typer.Option()] = 256,
    lr: Annotated[float, typer.Option(help="peak learning rate of AdamW")] = 2e-3,
    flip: Annotated[
        bool, typer.Option(help="mirror pictures at random; off where captions tell left from right")
    ] = True,
    seed: Annotated[int, typer.Option()] = 0,
    method: Annotated[str, typer.Option(help="clip, or safeclip (Yang et al. 2024)")] = "clip",
    drop: Annotated[
        Path | None, typer.Option(help="train without the pairs of a drop list: RUN/drop.parquet")
    ] = None,
    warmup_epochs: Annotated[
        int, typer.Option(help="safeclip: first epochs, of pictures and captions each for themselves")
    ] = 5,
    slow_rate: Annotated[
        float | None,
        typer.Option(
            help="safeclip: constant learning rate of the one epoch on all pairs after these",
            show_default="0.04 by the steps of an epoch",
        ),
    ] = None,
    growth: Annotated[
        float, typer.Option(help="safeclip: share of the pairs that each later epoch takes for safe beside")
    ] = 0.01,
    pool: Annotated[
        float,
        typer.Option(help="safeclip: share of the pairs whose features may stand in for a view; 0: none"),
    ] = 0.02,
    truth: Annotated[
        Path | None,
        typer.Option(exists=True, help="safeclip: truth.parquet of clipscan lab poison, to count against"),
    ] = None,
    cache_gb: Annotated[
        float | None,
        typer.Option(help="GB of disk for decoded pixels beside the checkpoint", show_default="8.6"),
    ] = None,
    reading: Reading = Reading(),
    encoding: Annotated[Encoding, "device", "workers"] = Encoding(),
) -> None:
    """Train a CLIP on the very data to be scanned, which is what the method needs. Killed, it resumes.

    safeclip learns in spite of poison: pictures and captions for themselves first, then the pairs that fit.
    What it took for safe in each epoch lies in OUT.partition.jsonl (of OUT.safetensors). Several processes,
    one a GPU: torchrun --nproc-per-node N -m clipscan train ...; not run on a GPU yet.
    """
    from clipscan.data import Without
    from clipscan.report.write_lists import DropList
    from clipscan.run.places import refuse_checkpoint
    from clipscan.train import SafeClip, train_clip
    from clipscan.train.torchrun import launched
    from clipscan.train.train import CACHE_BYTES

    if method not in ("clip", "safeclip"):
        raise InputError(f"no method {method!r}; there are: clip, safeclip")
    dataset = reading.open(source)
    refuse_checkpoint(out, dataset)
    if drop is not None:
        dataset = Without(dataset, set(DropList.load(drop)))
        dataset.check()
    speaks = launched()[0] == 0
    if speaks:
        print(dataset.describe())
    safeclip = SafeClip(warmup_epochs, slow_rate, growth=growth, pool=pool)
    train_clip(
        dataset, out, model=model, init=init, epochs=epochs, batch_size=batch_size, lr=lr, flip=flip,
        seed=seed, device=encoding.device, workers=encoding.workers,
        cache_bytes=CACHE_BYTES if cache_gb is None else round(cache_gb * 1e9),
        safeclip=safeclip if method == "safeclip" else None,
        watch=_counting(truth) if truth else None, log=lambda line: print(line, flush=True),
    )  # fmt: skip
    if speaks:
        print(f"next: clipscan scan {source} --pretrained {out} --out RUN")


def _counting(truth: Path) -> Watch:
    """A function that counts the pairs of a truth.parquet in each partition."""
    from clipscan.lab.attacks.poison_count import count_poison
    from clipscan.lab.attacks.poisoning import read_truth

    return count_poison(read_truth(truth))
