"""The demonstration, and what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="a folder; called again it continues")] = Path("demo"),
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """The whole job on generated pictures with a planted backdoor: offline, on a CPU, in minutes.

    Exit code 1, with a message, if the small model did not learn the trigger."""
    from clipscan.lab.demo import obeyed, run_demo

    if not obeyed(run_demo(out, seed=seed)):
        raise typer.Exit(1)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="the same for machines")] = False) -> None:
    """What is here, what is missing and why: versions, devices, back-ends, optional packages."""
    import json

    from clipscan.doctor import examine, page

    found = examine()
    print(json.dumps(found, indent=1) if as_json else page(found))
