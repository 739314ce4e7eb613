"""Where a run, its dataset and a cleaned copy may lie: never in each other."""

from __future__ import annotations

import os
from pathlib import Path

from clipscan.data import Dataset
from clipscan.data.inventory import is_url
from clipscan.errors import RunError
from clipscan.run.run_folder import OUTPUTS


def refuse_inside(run: Path, dataset: Dataset) -> None:
    """RunError where the run's files would become part of the dataset, or write over it."""
    if folder := within(run, folders(dataset)):
        raise RunError(
            f"--out {run} lies inside the dataset {folder}, where the run's own tables and arrays would be "
            "read as data; put it beside the dataset"
        )
    own = [run / name for names in OUTPUTS.values() for name in names]
    for root in filter(lambda root: not is_url(root), dataset.roots):
        if place := within(Path(root), own):
            raise RunError(
                f"the dataset {root} lies in {place}, which --out {run} would write over; choose another"
            )


def refuse_checkpoint(out: Path, dataset: Dataset) -> None:
    """RunError where what a training keeps beside its checkpoint would become part of the dataset."""
    if folder := within(out, folders(dataset)):
        raise RunError(f"--out {out} lies inside the dataset {folder}; put the checkpoint beside it")


def folders(dataset: Dataset) -> list[Path]:
    """The local folders that are walked for the dataset's files."""
    return [Path(root) for root in dataset.roots if not is_url(root) and os.path.isdir(root)]


def within(place: Path, homes: list[Path]) -> Path | None:
    """The first of the folders that is `place` or lies above it, links resolved."""
    real = os.path.realpath(place)
    for home in homes:
        above = os.path.realpath(home)
        if os.path.commonpath([real, above]) == above:
            return home
    return None


def refuse_target(to: Path, run: Path, dataset: Dataset) -> None:
    """RunError where a cleaned copy would become part of the dataset or of the run."""
    if folder := within(to, [run, *folders(dataset)]):
        raise RunError(f"--to {to} lies inside {folder}; put the cleaned dataset beside it")
