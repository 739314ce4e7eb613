"""What `clipscan lab run` is asked: a TOML file, every key checked in words before anything is computed.

[datasets.photos]                     # a name that cells, tables and plots use
train = "../photos/train"             # what `clipscan scan` takes, relative to this file, or "scenes:N:SEED"
held_out = "../photos/test"
classes = ["airplane", "ship"]        # of the zero-shot test; a held-out caption names one of them
free_captions = false                 # true: no classes; models are asked for the nearest of 1,000 captions
few = { frog = 125 }                  # keep so many of the pairs whose caption names it: an honest rare kind
pictures = 2000                       # held-out ones to use; default: all
batch_size = 256                      # of the training

[defaults]                            # for all cases
dataset = "photos"
target = "banana"
models = ["clipscan-conv-32"]
epochs = [4, 10]                      # when the model is looked at; the last is the length of the training
seeds = [0, 1, 2]

[[cases]]                             # lists multiply out into cells
attack = ["badnets", "sig"]           # lab/attacks/campaigns.py
rates = [0.002, 0.005]                # 0: nothing planted
pairs = [10, 35]                      # so many for each target, in the place of rates or beside them
options = { share = 0.25 }            # of the trigger; `file` of a learnt one is relative to this file
                                      # captions, concept: lab/attacks/wordings.py, lab/attacks/campaigns.py
defences = ["drop", "safeclip"]       # train again, defended (defences.py); default: none
base = 20                             # go on from a training on the clean dataset, of so many epochs
lr = 2e-4                             # of the training; default: train_clip's
heads = 0.01                          # try `clipscan heads` on the models, at this false-alarm rate

[score]
methods = ["dao", "cosine"]           # or "all"
k = [16]
references = ["1024x8", "all"]        # as in clipscan.score(reference=)
compat = ["dao"]                      # also as the authors' released code computes it

[safeclip]                            # settings of that defence, all of them optional
epochs = 16                           # of all phases together
lr = 2e-3
warmup_epochs = 5                     # and the others of clipscan.train.SafeClip
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clipscan.errors import InputError
from clipscan.lab.attacks.learnt.trigger_file import read_learnt
from clipscan.lab.grid.cell_scores import Asked
from clipscan.lab.grid.cells import FILE, Cell
from clipscan.lab.grid.defences import DEFENCES, SafeTraining
from clipscan.lab.grid.toml_keys import NEEDED, Keys
from clipscan.train.recipe import SafeClip


class Source(NamedTuple):
    """A dataset and what its models are tried on; `train` and `held_out` as open_source takes them."""

    name: str
    train: str
    held_out: str
    classes: tuple[str, ...]  # (): captions are free
    pictures: int | None
    batch_size: int
    few: dict[str, int]


class Work(NamedTuple):
    """One cell, the defences that are tried on it, and at which false-alarm rate `clipscan heads`; 0: not."""

    cell: Cell
    defences: tuple[str, ...]
    heads: float


@dataclass(frozen=True)
class Plan:
    """A checked config: its datasets by name, its cells in the order of the file, what is asked of each."""

    sources: dict[str, Source]
    works: list[Work]
    asked: Asked
    safe: SafeTraining


def read_config(path: Path) -> Plan:
    """The plan in a TOML file. InputError names the file, the key and the remedy: no such file, no TOML,
    unknown or missing keys, wrong types, a dataset, an attack, an option or a score that does not exist."""
    keys = Keys(_toml(path), str(path))
    sources = {
        name: _source(Keys(table, f"{path}: [datasets.{name}]"), name, path.parent)
        for name, table in keys.tables("datasets", one="dataset")
    }
    defaults = keys.table("defaults", {})
    works: dict[str, Work] = {}
    for number, table in enumerate(keys.array("cases"), 1):
        case = Keys({**defaults, **table}, f"{path}: case {number}")
        for work in _works(case, sources, path.parent):
            name = f"{work.cell.dataset}/{work.cell.name}"
            known = works.get(name, work)
            both = tuple(dict.fromkeys(known.defences + work.defences))
            works[name] = Work(work.cell, both, work.heads or known.heads)
    asked = _asked(Keys(keys.table("score", {}), f"{path}: [score]"))
    safe = _safe(Keys(keys.table("safeclip", {}), f"{path}: [safeclip]"))
    keys.done()
    return Plan(sources, list(works.values()), asked, safe)


def open_source(text: str) -> Any:
    """A dataset as a config names it: "scenes:N:SEED", made up on the spot, or what open_dataset takes."""
    if not text.startswith("scenes:"):
        from clipscan.data import open_dataset

        return open_dataset(text)
    from clipscan.lab.scenes.dataset import Scenes

    numbers = text.split(":")[1:]
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        raise InputError(f"{text!r}: generated pictures are named scenes:N:SEED, as in 'scenes:600:0'")
    return Scenes(int(numbers[0]), seed=int(numbers[1]))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise InputError(f"{path}: no such file; examples are in examples/lab") from missing
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


def _source(keys: Keys, name: str, folder: Path) -> Source:
    source = Source(
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


def _works(keys: Keys, sources: dict[str, Source], folder: Path) -> list[Work]:
    """The cells of one case; a trigger's file lies relative to `folder`."""
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


def _safe(keys: Keys) -> SafeTraining:
    usual = SafeTraining()
    epochs, lr = keys.one("epochs", int, usual.epochs), keys.one("lr", float, usual.lr)
    kinds = {"warmup_epochs": int}
    settings = {
        name: keys.one(name, kinds.get(name, float), default)
        for name, default in asdict(usual.safeclip).items()
    }
    keys.done()
    safeclip = SafeClip(**settings)
    try:
        safeclip.check(epochs)
    except InputError as error:
        raise InputError(f"{keys.where}: {error}") from error
    return SafeTraining(epochs, lr, safeclip)


def _asked(keys: Keys) -> Asked:
    asked = Asked(
        tuple(keys.many("methods", str, ["all"])),
        tuple(keys.many("k", int, [16])),
        tuple(keys.many("references", str, ["1024x8"])),
        tuple(keys.many("compat", str, [])),
        keys.one("seed", int, 0),
    )
    keys.done()
    try:
        return asked.checked()
    except InputError as error:
        raise InputError(f"{keys.where}: {error}") from error
