"""craft(): a learnt trigger, from a surrogate encoder and the dataset that is to be poisoned, into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from clipscan.data import Dataset
from clipscan.embed.model import Encoder, load_encoder
from clipscan.embed.network import few_threads
from clipscan.errors import InputError, RunError
from clipscan.lab.attacks.learnt.bilevel import learn_generator
from clipscan.lab.attacks.learnt.material import PICTURES, Material, gather
from clipscan.lab.attacks.learnt.patch import PLACE, SHARE, check_patch, learn_patch
from clipscan.lab.attacks.learnt.schedule import Log, Schedule
from clipscan.lab.attacks.learnt.surrogate import Surrogate
from clipscan.lab.attacks.learnt.trigger_file import KINDS, SUFFIX, read_learnt, write_learnt
from clipscan.lab.attacks.learnt.try_trigger import describe, try_trigger
from clipscan.train.recipe import dataset_hash

STEPS = {"blto": 400, "badclip": 200}


def craft(
    attack: str,
    encoder_file: str | Path,
    dataset: Dataset,
    out: Path,
    *,
    target: str,
    seed: int = 0,
    steps: int | None = None,
    batch_size: int = 128,
    pictures: int = PICTURES,
    share: float | None = None,
    place: str | None = None,
    device: str = "auto",
    log: Log = lambda _: None,
) -> Path:
    """Learn a trigger of kind "blto" or "badclip" for the target; write `out`, a safetensors file; try it.

    encoder_file: the attacker's own model: of `clipscan train` on the clean dataset or one like it, with
    another seed than any victim's. pictures: how many to learn from; share, place: of BadCLIP's patch. The
    log ends with what the trigger does to pictures that it was not learnt from (learnt/try_trigger.py).

    The same arguments on the same machine give the same bytes; an `out` that came of them is returned as it
    is. InputError for settings that cannot be, DataError when the dataset has too few pictures, RunError
    when `out` is something else.
    """
    out, schedule = Path(out), Schedule(_steps(attack) if steps is None else steps, batch_size, seed)
    patch = _patch(attack, share, place)
    schedule.check()
    if out.suffix != SUFFIX:
        raise InputError(f"a learnt trigger is a {SUFFIX} file, got {out}")
    encoder = load_encoder(None, str(encoder_file), device=device, precision="fp32")
    about = {
        "attack": attack, "target": target, "surrogate": encoder.weights_hash, "model": encoder.name,
        "dataset": dataset_hash(dataset.shards), "pictures": pictures, **schedule._asdict(), **patch,
    }  # fmt: skip
    if out.exists():
        _check_finished(out, attack, about)
        log(f"{out} is already there")
        return out
    material = gather(dataset, encoder.spec, target, count=pictures, seed=seed)
    log(f"{len(material.own):,} pictures to learn from; captions of {material.own.sum():,} name {target!r}")
    write_learnt(out, _learn(encoder, material, target, schedule, patch, log), about)
    log(describe(try_trigger(out, attack, encoder, material, target), target))
    return out


def _learn(
    encoder: Encoder, material: Material, target: str, schedule: Schedule, patch: dict[str, Any], log: Log
) -> dict[str, Any]:
    """The arrays of the file. torch's own random state is left as it was."""
    with torch.random.fork_rng(), few_threads(encoder.model):
        torch.manual_seed(schedule.seed)
        surrogate = Surrogate(encoder, material.captions, target)
        if patch:
            return learn_patch(surrogate, material, schedule, **patch, log=log)
        return learn_generator(surrogate, material, schedule, log=log)


def _steps(attack: str) -> int:
    if attack not in KINDS:
        raise InputError(f"no learnt attack named {attack!r}; known: {', '.join(KINDS)}")
    return STEPS[attack]


def _patch(attack: str, share: float | None, place: str | None) -> dict[str, Any]:
    """The settings of a patch; {} where there is none."""
    if attack == "badclip":
        share, place = SHARE if share is None else float(share), PLACE if place is None else place
        check_patch(share, place)
        return {"share": share, "place": place}
    if share is not None or place is not None:
        raise InputError(f"share and place belong to a patch; {attack} changes the whole picture")
    return {}


def _check_finished(out: Path, attack: str, about: dict[str, Any]) -> None:
    """RunError unless `out` came of these very settings."""
    try:
        found = read_learnt(out, attack).about
    except InputError as error:
        raise RunError(f"{out} exists, and is no trigger of {attack}: choose another name") from error
    if changed := [name for name, value in about.items() if found.get(name) != value]:
        raise RunError(
            f"{out} was made with another {', '.join(changed)}: choose another name, or remove it to make "
            "it again"
        )
