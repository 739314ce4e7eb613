"""More than the page as it is: `clipscan serve`, in a browser on this machine, and `clipscan map`."""

from __future__ import annotations

from typing import Annotated

import typer

from clipscan.cli.options import RunPath


def serve(
    run: RunPath,
    port: Annotated[int, typer.Option(help="to listen on; 0: any that is free", min=0, max=65535)] = 0,
    blur: Annotated[
        bool, typer.Option("--blur", help="pictures are blurred until they are pointed at or asked for")
    ] = False,
) -> None:
    """The page of a run of any size in a browser on this machine; decisions go to RUN/decisions.json.

    All rows by pages, pictures from their shards. Only this machine is listened to, and only who has the
    address that is printed, with its token, is answered. Ctrl-C ends it.
    """
    from clipscan import pipeline
    from clipscan.run import Run

    serving = pipeline.serve(Run(run), port, blur)
    print(f"open {serving.url}\nCtrl-C ends it; decisions are saved in {run / 'decisions.json'}", flush=True)
    serving.forever()


def map(
    run: RunPath,
    most: Annotated[
        int, typer.Option(help="samples on it: all, or the suspects and others at random", min=2, max=100_000)
    ] = 100_000,
    epochs: Annotated[int, typer.Option(help="of the layout", min=1)] = 100,
    seed: Annotated[int, typer.Option(help="of the samples and the layout")] = 0,
) -> None:
    """Draw the map: samples in two dimensions, near ones near, from the exact graph; into the page."""
    from clipscan import pipeline
    from clipscan.run import Run

    count, page = pipeline.draw_map(Run(run), most, epochs, seed)
    print(f"{count:,} samples on the map (key m): {page}")
