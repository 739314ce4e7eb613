"""Does it help? The same training again, without the pairs that clipscan would drop.

CELL/retrained-DIGEST/dataset           the poisoned dataset, made again; removed at the end
CELL/retrained-DIGEST/model.safetensors
CELL/retrained-DIGEST/retrained.json    behaviour and counts, written last
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from clipscan.data import Dataset, Without, open_dataset
from clipscan.lab.cells import Cell, behaviour, one_of, plant, train, tried
from clipscan.lab.figures import dropped
from clipscan.lab.poison import Identity, read_truth
from clipscan.run.files import read_json, write_json
from clipscan.run.folder import fingerprint

Say = Callable[[str], None]


def retrain(
    cell: Cell,
    at: Path,
    source: Dataset,
    held_out: Dataset,
    classes: Sequence[str],
    *,
    limit: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Say,
) -> None:
    """Train again without what was dropped after the last epoch of the finished cell in `at`.

    What is finished with the same drop list is not done again; see `retrained` for the outcome. Arguments
    and errors are those of lab/cells.py:prepare.
    """
    drop = dropped(at, cell.epochs[-1])
    out, truth = _folder(at, drop), read_truth(at / "truth.parquet")
    if not (out / "retrained.json").exists():
        if drop:
            say(f"training again without {len(drop):,} pairs")
            planted = plant(cell, source, out)
            dataset, weights = open_dataset(planted.dataset), out / "model.safetensors"
            train(cell, Without(dataset, drop), weights, device=device, workers=workers, say=say)
            seen = tried(cell, weights, held_out, classes, limit, one_of(dataset, planted.truth), device)
        else:  # the same training would give the same model
            seen = behaviour(at / f"epoch{cell.epochs[-1]:02d}")
        after = {f"{name}_after": getattr(seen, name) for name in ("success", "accuracy", "false_alarm")}
        counts = {"dropped": len(drop), "poison_left": len(truth - drop)}
        write_json(out / "retrained.json", {**counts, **after})
    shutil.rmtree(out / "dataset", ignore_errors=True)


def retrained(cell: Cell, at: Path) -> dict[str, Any]:
    """Columns of MODELS: what became of it; {} where it was not asked for or not yet done."""
    return read_json(_folder(at, dropped(at, cell.epochs[-1])) / "retrained.json")


def _folder(at: Path, drop: AbstractSet[Identity]) -> Path:
    return at / f"retrained-{fingerprint(sorted(drop))[:8]}"
