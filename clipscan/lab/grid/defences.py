"""Does it help? The same training again, defended, and what becomes of trigger and accuracy.

    drop        without the pairs that clipscan drops with default options
    safeclip    on all pairs, by SafeCLIP (clipscan/train/safeclip.py)

CELL/NAME-DIGEST/dataset                 the poisoned dataset, made again; removed at the end
CELL/NAME-DIGEST/model.safetensors       and for safeclip model.partition.jsonl, what it took for safe
CELL/NAME-DIGEST/defended.json           behaviour and counts, written last
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clipscan.data import Without, open_dataset
from clipscan.lab.attacks.poison_count import count_poison
from clipscan.lab.attacks.poisoning import Identity, read_truth
from clipscan.lab.grid.cells import Cell, Workplace, behaviour, first_of_each, plant, timed, train, tried
from clipscan.lab.grid.metrics_cache import dropped
from clipscan.run.file_io import read_json, write_json
from clipscan.run.run_folder import fingerprint
from clipscan.train.recipe import SafeClip

DROP, SAFECLIP = DEFENCES = ("drop", "safeclip")


@dataclass(frozen=True)
class SafeTraining:
    """How cells are trained by SafeCLIP."""

    epochs: int = 16
    lr: float = 2e-3
    safeclip: SafeClip = field(default_factory=SafeClip)


def defend(name: str, safe: SafeTraining, cell: Cell, at: Path, place: Workplace) -> None:
    """Train the finished cell in `at` once more, by the defence of that name.

    What is finished in the same way (drop: with the same list; safeclip: with the same settings) is not done
    again; see `defended` for the outcome. Errors are those of cells.py:prepare.
    """
    out = _folder(name, safe, cell, at)
    drop = dropped(at, cell.epochs[-1]) if name == DROP else set()
    if not (out / "defended.json").exists():
        seconds: dict[str, float] = {}
        if name == DROP and not drop:  # the same training would give the same model
            seen = behaviour(at / f"epoch{cell.epochs[-1]:02d}")
        else:
            place.say(f"{name}: training again" + (f" without {len(drop):,} pairs" if drop else ""))
            planted = plant(cell, place.source, out)
            dataset, weights = open_dataset(planted.dataset), out / "model.safetensors"
            how: dict[str, Any] = {}
            if name == SAFECLIP:
                watch = count_poison(read_truth(planted.truth))
                how = asdict(safe) | {"safeclip": safe.safeclip, "watch": watch}
            with timed(seconds, "train"):
                kept = Without(dataset, drop) if drop else dataset
                train(cell, kept, weights, place, **how)
            seen = tried(cell, weights, place, first_of_each(dataset, planted.truth))
        after = {f"{kind}_after": getattr(seen, kind) for kind in ("success", "accuracy", "false_alarm")}
        write_json(out / "defended.json", _counts(out, at, drop) | after | {"seconds": seconds.get("train")})
    shutil.rmtree(out / "dataset", ignore_errors=True)


def defended(name: str, safe: SafeTraining, cell: Cell, at: Path) -> dict[str, Any]:
    """Columns of DEFENDED: what became of it; {} where it is not yet done."""
    return read_json(_folder(name, safe, cell, at) / "defended.json")


def partitions(name: str, safe: SafeTraining, cell: Cell, at: Path) -> list[dict[str, Any]]:
    """What each epoch took for safe (clipscan/train/safeclip.py); [] for a defence that takes all alike."""
    path = _folder(name, safe, cell, at) / "model.partition.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _counts(out: Path, at: Path, drop: set[Identity]) -> dict[str, int]:
    """How many pairs were left out (by a partition: in its last epoch), and how much poison stayed."""
    path = out / "model.partition.jsonl"
    if path.exists():
        last = json.loads(path.read_text().splitlines()[-1])
        return {"dropped": last["pairs"] - last["safe"], "poison_left": last["poison_safe"]}
    return {"dropped": len(drop), "poison_left": len(set(read_truth(at / "truth.parquet")) - drop)}


def _folder(name: str, safe: SafeTraining, cell: Cell, at: Path) -> Path:
    decided_by: Any = sorted(dropped(at, cell.epochs[-1])) if name == DROP else asdict(safe)
    return at / f"{name}-{fingerprint(decided_by)[:8]}"
