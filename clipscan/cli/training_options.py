"""The options of a training, in words; their defaults are those of train/options.py and train/recipe.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipscan.train.options import Resources

Checkpoint = Annotated[
    Path, typer.Option("--out", help="the checkpoint, a .safetensors file", show_default=False)
]
Architecture = Annotated[
    str | None,
    typer.Option(
        help="clipscan-conv-32 or -64 for small pictures, or any open_clip name",
        show_default="clipscan-conv-32, or that of --init",
    ),
]
Init = Annotated[Path | None, typer.Option(exists=True, help="go on from this checkpoint")]
Epochs = Annotated[
    int | None, typer.Option(help="passes over all pairs", show_default="10 to 30, for 2,000 steps")
]
PairsAtOnce = Annotated[int, typer.Option()]
LearningRate = Annotated[float, typer.Option(help="peak learning rate of AdamW")]
Flip = Annotated[
    bool, typer.Option(help="mirror pictures at random; off where captions tell left from right")
]
TrainingSeed = Annotated[int, typer.Option()]
TrainingMethod = Annotated[str, typer.Option(help="clip, or safeclip (Yang et al. 2024)")]
Drop = Annotated[Path | None, typer.Option(help="train without the pairs of a drop list: RUN/drop.parquet")]
WarmupEpochs = Annotated[
    int, typer.Option(help="safeclip: first epochs, of pictures and captions each for themselves")
]
SlowRate = Annotated[
    float | None,
    typer.Option(
        help="safeclip: constant learning rate of the one epoch on all pairs after these",
        show_default="0.04 by the steps of an epoch",
    ),
]
Growth = Annotated[
    float, typer.Option(help="safeclip: share of the pairs that each later epoch takes for safe beside")
]
Pool = Annotated[
    float,
    typer.Option(help="safeclip: share of the pairs whose features may stand in for a view; 0: none"),
]
Truth = Annotated[
    Path | None,
    typer.Option(exists=True, help="safeclip: truth.parquet of clipscan lab poison, to count against"),
]
CacheGB = Annotated[
    float | None,
    typer.Option(
        help="GB of disk for decoded pixels beside the checkpoint",
        show_default=f"{Resources.cache_bytes / 1e9:.1f}",
    ),
]
