"""`clipscan serve`: the page of a run in a browser on this machine."""

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
