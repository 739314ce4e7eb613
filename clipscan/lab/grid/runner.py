"""`clipscan lab run`: every cell of a config prepared, scored and, where asked, trained again; then the rows.

    DIR/cells/NAME/...            see cells.py, metrics_cache.py, defences.py
    DIR/rows.csv, models.csv, ... see result_rows.py; also as parquet
    DIR/bases/...                 clean models that cells go on from

Whatever is finished is not done again, so that it can be killed at any moment and go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from clipscan.engine import cores
from clipscan.errors import InputError
from clipscan.lab.grid.cells import FILE, Cell, Workplace, behaviour, prepare, train_base
from clipscan.lab.grid.config import GridPlan
from clipscan.lab.grid.config_cases import Work
from clipscan.lab.grid.config_datasets import LabDataset, open_lab_dataset
from clipscan.lab.grid.defences import defend, defended, partitions
from clipscan.lab.grid.head_trials import HEADS_FILE, try_cell
from clipscan.lab.grid.jobs import Failure, each
from clipscan.lab.grid.metrics_cache import Measured, measure, measured
from clipscan.lab.grid.result_rows import TABLES, dropping, write_rows
from clipscan.lab.grid.thinned import Thinned
from clipscan.run.file_io import read_json
from clipscan.run.run_folder import RunFolder

Say = Callable[[str], None]


class GridOutcome(NamedTuple):
    """How a run of the laboratory ended: finished cells of the plan, failures among those that were tried,
    rows, and how many of their figures other code made."""

    cells: int
    failures: list[Failure]
    rows: int
    stale: int


@dataclass(frozen=True)
class Errand:
    """The task of a worker process, in plain values."""

    work: Work
    source: LabDataset
    plan: GridPlan
    out: Path
    again: bool
    device: str
    share: int  # of the cores


def run(
    plan: GridPlan, out: Path, *, only: str | None = None, again: bool = False, jobs: int = 1,
    device: str = "auto", say: Say = lambda _: None,
) -> GridOutcome:  # fmt: skip
    """Do what is missing of the plan in `out`, and write the rows of all that is finished.

    only: cells whose dataset/name contains this, or matches it as a pattern with * and ?. again: score
    anew; trainings are kept. jobs: cells at a time, each in a process of its own if there are several.
    A cell that fails does not stop the others. InputError when nothing is chosen or a dataset cannot be
    opened; RunError when another run works in `out`.
    """
    chosen = [work for work in plan.works if _matches(work.cell, only)]
    if not chosen:
        raise InputError(f"--only {only!r} matches none of {len(plan.works)} cells, such as "
                         f"{_title(plan.works[0].cell)!r}")  # fmt: skip
    _check_sources(plan, chosen)
    say(f"{len(chosen)} cells, {sum(_finished(out, work.cell) for work in chosen)} of them trained already")
    share = max(1, cores() // jobs)
    errands = {
        _title(work.cell): Errand(work, plan.sources[work.cell.dataset], plan, out, again, device, share)
        for work in chosen
    }
    with RunFolder(out).lock():
        _train_bases(list(errands.values()), say)
        try:
            failures = each(errands, do, jobs, say)
        finally:
            tables, stale = collect(plan, out)
            for name, rows in tables.items():
                write_rows(out, name, rows, TABLES[name])
    return GridOutcome(len(_done(plan, out)), failures, len(tables["rows"]), stale)


def _train_bases(errands: Sequence[Errand], say: Say) -> None:
    """The clean models that cells go on from, one after the other before the cells: several share one."""
    for errand in errands:
        if errand.work.cell.base:
            train_base(errand.work.cell, _workplace(errand, say))


def _workplace(errand: Errand, say: Say) -> Workplace:
    source = errand.source
    train = open_lab_dataset(source.train)
    return Workplace(
        Thinned(train, source.few) if source.few else train, open_lab_dataset(source.held_out),
        source.classes, errand.out / "bases", source.pictures, errand.device, errand.share, say,
    )  # fmt: skip


def do(errand: Errand, say: Say) -> None:
    """One cell from poison to figures."""
    cell, place = errand.work.cell, _workplace(errand, say)
    at = prepare(cell, errand.out / "cells", place)
    devices = "cpu" if errand.device == "cpu" else "auto"
    for epoch in cell.epochs:
        search = {"threads": errand.share, "devices": devices}
        if scored := measure(at, epoch, errand.plan.asked, again=errand.again, **search):
            say(f"epoch {epoch}: {scored} columns of scores against the truth")
        if errand.work.heads:
            try_cell(cell, at, epoch, errand.work.heads, place)
    for name in errand.work.defences:
        defend(name, errand.plan.safe, cell, at, place)


def collect(plan: GridPlan, out: Path) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """The rows of TABLES of all finished cells, and how many figures other code made."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    stale = 0
    for work in _done(plan, out):
        at = out / "cells" / work.cell.name
        for epoch in work.cell.epochs:
            found = measured(at, epoch, plan.asked)
            if found.model:
                case = _case(work.cell, at, epoch)
                flagged, poison = found.model["flagged"], found.model["flagged_poison"]
                tables["models"].append(case | found.model | dropping(flagged, poison, case["poisoned"]))
                tables["rows"] += _rows(case, found)
                stale += found.stale
                if tried := read_json(at / f"epoch{epoch:02d}" / HEADS_FILE):
                    tables["heads"].append(case | tried)
                if epoch == work.cell.epochs[-1]:
                    _defended(tables, plan, work, at, case)
    return tables, stale


def _defended(
    tables: dict[str, list[dict[str, Any]]], plan: GridPlan, work: Work, at: Path, case: dict[str, Any]
) -> None:
    """The rows of the defences that were tried on a cell's last epoch."""
    for name in work.defences:
        if outcome := defended(name, plan.safe, work.cell, at):
            tables["defended"].append(case | {"defence": name} | outcome)
            parts = partitions(name, plan.safe, work.cell, at)
            tables["partitions"] += [
                case | {"defence": name} | part | {"epoch": part["epoch"]} for part in parts
            ]


def _rows(case: dict[str, Any], found: Measured) -> list[dict[str, Any]]:
    """A row a column; where nothing is planted one row, of what would be dropped in vain."""
    flagged = {name: found.model[name] for name in ("flagged", "flagged_share")}
    if not case["poisoned"]:
        return [case | flagged | {"score": "", "reference": "", "compat": "", "code": found.model["code"]}]
    return [case | flagged | figures for figures in found.scores.values()]


def _case(cell: Cell, at: Path, epoch: int) -> dict[str, Any]:
    record, seen = read_json(at / "cell.json"), behaviour(at / f"epoch{epoch:02d}")
    counts = record["counts"]
    return {
        "dataset": cell.dataset, "attack": cell.attack, "target": cell.target,
        "options": _shown(cell.options), "seed": cell.seed, "epoch": epoch,
        "rate": cell.rate if cell.pairs is None else counts["poisoned"] / counts["pairs"],
        "model": f"{cell.model} +{cell.base}" if cell.base else cell.model,
        "pairs": counts["pairs"], "poisoned": counts["poisoned"], "success": seen.success,
        "accuracy": seen.accuracy, "retrieval": seen.retrieval, "false_alarm": seen.false_alarm,
        "train_seconds": record["seconds"]["train"], "cell": cell.name,
    }  # fmt: skip


def _shown(options: dict[str, Any]) -> str:
    """As rows and pages hold them: of a trigger's file its name only."""
    shown = {name: Path(value).name if name == FILE else value for name, value in options.items()}
    return json.dumps(shown, sort_keys=True) if shown else ""


def _check_sources(plan: GridPlan, chosen: Sequence[Work]) -> None:
    """What cannot be opened is said before anything is computed."""
    for name in dict.fromkeys(work.cell.dataset for work in chosen):
        for key in ("train", "held_out"):
            try:
                open_lab_dataset(getattr(plan.sources[name], key))
            except Exception as error:  # any reader's
                raise InputError(
                    f"[datasets.{name}]: {key}: {error}. Paths are relative to the config's folder"
                ) from error


def _done(plan: GridPlan, out: Path) -> list[Work]:
    return [work for work in plan.works if _finished(out, work.cell)]


def _finished(out: Path, cell: Cell) -> bool:
    return (out / "cells" / cell.name / "cell.json").exists()


def _title(cell: Cell) -> str:
    return f"{cell.dataset}/{cell.name}"


def _matches(cell: Cell, only: str | None) -> bool:
    return only is None or only in _title(cell) or fnmatch(_title(cell), only)
