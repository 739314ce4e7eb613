"""The folder beside a training's file while it goes on: decoded pixels, and the state to go on from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from clipscan.data.atomic import refusals, sweep, sweep_of
from clipscan.train.processes import Processes
from clipscan.train.state import STATE
from clipscan.train.survey import FILES


def folder_of(out: Path) -> Path:
    """OUT.training."""
    return out.with_name(out.name + ".training")


def open_folder(out: Path, mine: Processes, *, resume: bool) -> None:
    """Make the folder of `out`, rid of drafts that a killed training left; unless `resume`, of its state too.

    Raises RunError where nothing can be written there.
    """
    folder = folder_of(out)
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if mine.first:
        sweep(folder)
        sweep_of(out)
    if not resume:
        (folder / STATE).unlink(missing_ok=True)


def remove_folder(out: Path) -> None:
    """Remove what a training keeps in the folder of `out`; the folder stays where other files are in it."""
    folder = folder_of(out)
    for name in (*FILES, STATE):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # someone keeps a file of their own there
        folder.rmdir()
