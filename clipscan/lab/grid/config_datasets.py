"""The datasets of a config: what they are trained on and tried on, and how they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from clipscan.errors import InputError
from clipscan.lab.grid.toml_keys import Keys


class LabDataset(NamedTuple):
    """A dataset and what its models are tried on; `train` and `held_out` as open_lab_dataset takes them."""

    name: str
    train: str
    held_out: str
    classes: tuple[str, ...]  # (): captions are free
    pictures: int | None
    batch_size: int
    few: dict[str, int]


def open_lab_dataset(text: str) -> Any:
    """A dataset as a config names it: "scenes:N:SEED", generated on the spot, or what open_dataset takes.

    InputError for scenes without a number and a seed; of other datasets the errors of open_dataset.
    """
    if not text.startswith("scenes:"):
        from clipscan.data import open_dataset

        return open_dataset(text)
    from clipscan.lab.scenes.dataset import Scenes

    numbers = text.split(":")[1:]
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        raise InputError(f"{text!r}: generated pictures are named scenes:N:SEED, as in 'scenes:600:0'")
    return Scenes(int(numbers[0]), seed=int(numbers[1]))


def read_lab_dataset(keys: Keys, name: str, folder: Path) -> LabDataset:
    """The table [datasets.NAME]; paths are relative to `folder`. InputError for unknown or missing keys."""
    source = LabDataset(
        name,
        _resolved(keys.one("train", str), folder),
        _resolved(keys.one("held_out", str), folder),
        () if keys.one("free_captions", bool, False) else tuple(keys.many("classes", str)),
        keys.one("pictures", int, None),
        keys.one("batch_size", int, 256),
        _few(Keys(keys.table("few", {}), f"{keys.where}: few")),
    )
    keys.done()
    return source


def _few(keys: Keys) -> dict[str, int]:
    """How many pairs to keep of each word."""
    return {word: keys.one(word, int) for word in keys.names}


def _resolved(text: str, folder: Path) -> str:
    """Relative to the config's folder, but for generated pictures and URLs."""
    if text.startswith("scenes:"):
        return text
    return "::".join(part if "://" in part else str(folder / part) for part in text.split("::"))
