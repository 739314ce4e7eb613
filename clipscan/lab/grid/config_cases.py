"""The cases of a config: lists that multiply out into cells, each of them checked."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

from clipscan.errors import InputError
from clipscan.lab.attacks.learnt.trigger_file import read_learnt
from clipscan.lab.grid.cells import FILE, Cell
from clipscan.lab.grid.config_datasets import LabDataset
from clipscan.lab.grid.defences import DEFENCES
from clipscan.lab.grid.toml_keys import NEEDED, Keys


class Work(NamedTuple):
    """One cell, the defences that are tried on it, and at which false-alarm rate `clipscan heads`; 0: not."""

    cell: Cell
    defences: tuple[str, ...]
    heads: float


def read_case(keys: Keys, sources: dict[str, LabDataset], folder: Path) -> list[Work]:
    """The cells of one case; a trigger's file is relative to `folder`. InputError names the case and key."""
    lists = (
        keys.many("dataset", str), keys.many("attack", str), keys.many("target", str),
        _amounts(keys), keys.many("models", str), keys.many("seeds", int),
    )  # fmt: skip
    epochs = tuple(sorted(set(keys.many("epochs", int))))
    options = keys.one("options", dict, {})
    defences, heads = tuple(keys.many("defences", str, [])), keys.one("heads", float, 0.0)
    training = {"base": keys.one("base", int, 0), "lr": keys.one("lr", float, None)}
    keys.done()
    if unknown := set(defences) - set(DEFENCES):
        known = ", ".join(DEFENCES)
        raise InputError(f"{keys.where}: no defence {sorted(unknown)[0]!r}; there are: {known}")
    if FILE in options:
        options = options | {FILE: str(folder / str(options[FILE]))}
    works = []
    for dataset, attack, target, (rate, pairs), model, seed in itertools.product(*lists):
        if dataset not in sources:
            raise InputError(f"{keys.where}: no [datasets.{dataset}]; there are: {', '.join(sources)}")
        cell = Cell(
            dataset,
            attack,
            target,
            rate,
            seed,
            model,
            epochs,
            sources[dataset].batch_size,
            dict(options),
            **training,
            pairs=pairs,
        )
        _check(cell, keys.where)
        if heads and not sources[dataset].classes:
            raise InputError(f"{keys.where}: heads needs classes; [datasets.{dataset}] has free captions")
        works.append(Work(cell, defences, heads))
    return works


def _amounts(keys: Keys) -> list[tuple[float, int | None]]:
    """(rate, pairs) of each cell: rates, and numbers of pairs in their place."""
    numbers: list[int] = keys.many("pairs", int, [])
    rates: list[float] = keys.many("rates", float, [] if numbers else NEEDED)
    return [(rate, None) for rate in rates] + [(0.0, number) for number in numbers]


def _check(cell: Cell, where: str) -> None:
    if not 0 <= cell.rate < 1:
        raise InputError(f"{where}: rates: {cell.rate} is not a share of the pairs, at least 0 and below 1")
    if cell.pairs is not None and cell.pairs < 1:
        raise InputError(
            f"{where}: pairs: {cell.pairs} is no number of pairs; for a clean control use rates = 0"
        )
    if cell.base < 0 or not (cell.lr is None or cell.lr > 0):
        raise InputError(f"{where}: base is a number of epochs, lr above 0; got {cell.base}, {cell.lr}")
    if cell.epochs[0] < 1:
        raise InputError(f"{where}: epochs: the model is looked at after 1 epoch at the earliest")
    if set("/\\\0") & set(cell.attack + cell.target + cell.model):
        raise InputError(f"{where}: attack, target and model name the cell's folder; no slashes in them")
    try:
        for part in cell.campaign.parts:
            if FILE in part.options:
                read_learnt(part.options[FILE], str(part.trigger))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
