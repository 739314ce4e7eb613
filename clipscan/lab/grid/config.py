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
                                      # captions, concept: planted_captions.py, campaigns.py in lab/attacks
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

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipscan.errors import InputError
from clipscan.lab.grid.cell_scores import Asked
from clipscan.lab.grid.config_cases import Work, read_case
from clipscan.lab.grid.config_datasets import LabDataset, read_lab_dataset
from clipscan.lab.grid.defences import SafeTraining
from clipscan.lab.grid.toml_keys import Keys
from clipscan.train.recipe import SafeClip


@dataclass(frozen=True)
class GridPlan:
    """A checked config: its datasets by name, its cells in the order of the file, what is asked of each."""

    sources: dict[str, LabDataset]
    works: list[Work]
    asked: Asked
    safe: SafeTraining


def read_config(path: Path) -> GridPlan:
    """The plan in a TOML file. InputError names the file, the key and the remedy: no such file, no TOML,
    unknown or missing keys, wrong types, a dataset, an attack, an option or a score that does not exist."""
    keys = Keys(_toml(path), str(path))
    sources = {
        name: read_lab_dataset(Keys(table, f"{path}: [datasets.{name}]"), name, path.parent)
        for name, table in keys.tables("datasets", one="dataset")
    }
    defaults = keys.table("defaults", {})
    works: dict[str, Work] = {}
    for number, table in enumerate(keys.array("cases"), 1):
        case = Keys({**defaults, **table}, f"{path}: case {number}")
        for work in read_case(case, sources, path.parent):
            name = f"{work.cell.dataset}/{work.cell.name}"
            known = works.get(name, work)
            both = tuple(dict.fromkeys(known.defences + work.defences))
            works[name] = Work(work.cell, both, work.heads or known.heads)
    asked = _asked(Keys(keys.table("score", {}), f"{path}: [score]"))
    safe = _safe(Keys(keys.table("safeclip", {}), f"{path}: [safeclip]"))
    keys.done()
    return GridPlan(sources, list(works.values()), asked, safe)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise InputError(f"{path}: no such file; examples are in examples/lab") from missing
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


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
