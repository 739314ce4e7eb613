"""Options that several commands have, in one wording; and how progress is shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipscan.run.progress import Lines, Progress, ProgressBar
from clipscan.scores.renamed import present_name
from clipscan.scores.table import OFFERED


def _present_method(method: str) -> str:
    """The name that a score has today; a note where it is another."""
    if (name := present_name(method)) != method:
        print(f"note: the score {method} is named {name} now", file=sys.stderr)
    return name


RunPath = Annotated[Path, typer.Argument(help="a run folder, made by scan or embed", show_default=False)]
Source = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="folder, tars ({000..331}.tar), table or embeddings", show_default=False
    ),
]
Out = Annotated[
    Path, typer.Option("--out", help="the run folder; called again it continues", show_default=False)
]
TrustedModel = Annotated[
    str | None,
    typer.Option(help="open_clip's name of a second model that has NOT seen this data: adds `trusted`"),
]
TrustedPretrained = Annotated[str | None, typer.Option(help="its tag, or a checkpoint file")]
Precision = Annotated[str, typer.Option(help="auto (bf16 on a GPU), fp32, bf16, fp16")]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="torch.compile the picture tower: slow to start; not tried on a GPU yet"),
]
Threads = Annotated[int | None, typer.Option(help="search threads; default: all cores")]
Backend = Annotated[
    str, typer.Option(help="back-end of the search: auto, cuda, triton, cpu (see clipscan doctor)")
]
Devices = Annotated[str, typer.Option(help="GPUs of the search: auto (all), cpu (none), or numbers: 0,1")]
K = Annotated[int, typer.Option("--k", help="neighbours")]
Method = Annotated[
    str, typer.Option(callback=_present_method, help=f"the score that ranks: {', '.join(OFFERED)}")
]
Reference = Annotated[
    str, typer.Option(help="MxR = R random draws of M rows, M, all; of several the first ranks")
]
Against = Annotated[str, typer.Option(help="image, or image+text: captions join the reference")]
Fraction = Annotated[
    float | None,
    typer.Option(
        help="share of the samples to suspect and drop",
        show_default="drop what is convicted (consensus) or stands apart, perhaps none",
    ),
]
Graph = Annotated[
    str, typer.Option(help="exact graph over the whole set, for groups of near-copies: auto, yes, no")
]
Seed = Annotated[int, typer.Option(help="of the random references")]
Model = Annotated[str | None, typer.Option(help="open_clip's name; not needed for a file of clipscan train")]
Pretrained = Annotated[str | None, typer.Option(help="open_clip's tag, or a checkpoint file")]
Format = Annotated[str, typer.Option(help="webdataset, folder, csv, parquet, embeddings")]
ImageKey = Annotated[str | None, typer.Option(help="extension or column of the picture")]
TextKey = Annotated[str | None, typer.Option(help="extension or column of the caption")]
Root = Annotated[
    list[Path] | None,
    typer.Option("--root", help="a further folder that pictures of a folder or csv may lie in; repeatable"),
]
Quoting = Annotated[str, typer.Option(help="of a csv: csv, or none: quotes are plain characters")]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1: where the model runs; not tried on a GPU yet")
]
BatchSize = Annotated[int, typer.Option(min=1, help="pictures encoded at once")]
Workers = Annotated[int | None, typer.Option(min=1, help="decoding processes; default: one a core")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="redo what was made with other settings")]
LogJson = Annotated[bool, typer.Option("--log-json", help="progress as JSON lines")]


def shown(log_json: bool) -> Progress:
    """A bar on a terminal, lines elsewhere, JSON lines where asked."""
    return ProgressBar() if sys.stderr.isatty() and not log_json else Lines(as_json=log_json)
