"""Options that several commands have, in one wording; and how progress is shown to whoever asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipscan.run.progress import Bar, Lines, Progress

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
    str, typer.Option(help="auto, cpu, cuda, cuda:1: where the model runs; no GPU was tried by us yet")
]
BatchSize = Annotated[int, typer.Option(min=1, help="pictures encoded at once")]
Workers = Annotated[int | None, typer.Option(min=1, help="decoding processes; default: one a core")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="redo what was made with other settings")]
LogJson = Annotated[bool, typer.Option("--log-json", help="progress as JSON lines")]


def shown(log_json: bool) -> Progress:
    """A bar on a terminal, lines elsewhere, JSON lines where asked."""
    return Bar() if sys.stderr.isatty() and not log_json else Lines(as_json=log_json)
