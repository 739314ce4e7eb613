"""The metrics of one cell after one epoch, kept beside its vectors so that only what is missing is computed.

    CELL/epochNN/figures.json    scores: a column's figures by the fingerprint of its settings; model: what is
                                 dropped and grouped; each with the digest of the code that made it
    CELL/epochNN/suspects.npy    row numbers that clipscan would drop

The code is no part of the fingerprint: while scores are being worked on, a new one must not cost all old
ones. Figures of other code are used, counted and said, until `again`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import clipscan
import clipscan.scores
from clipscan.engine.arrays import Array
from clipscan.lab.attacks.poisoning import read_truth
from clipscan.lab.grid import cell_scores, metrics, result_rows
from clipscan.lab.grid.cell_scores import Asked, CellVectors, Key, wanted
from clipscan.run.file_io import read_json, write_array, write_json
from clipscan.run.run_folder import fingerprint

SCORES, MODEL = "scores", "model"


class Measured(NamedTuple):
    """Figures of an epoch: those of the model, and a column's by Key. `stale`: how many other code made."""

    model: dict[str, Any]
    scores: dict[Key, dict[str, Any]]
    stale: int


def measure(cell: Path, epoch: int, asked: Asked, *, again: bool = False, **how: Any) -> int:
    """Compute what is asked of an epoch of a finished cell and not there yet; all of it with `again`.
    How many columns that were.

    how: threads and devices of the searches. Errors are those of clipscan.score.
    """
    at = _at(cell, epoch)
    known = {} if again else read_json(at / "figures.json")
    scores, model = known.get(SCORES, {}), known.get(MODEL, {})
    truth = read_truth(cell / "truth.parquet")
    missing = [key for key in wanted(asked) if truth and _print(key, asked) not in scores]
    todo = _model_print() not in model or not (at / "suspects.npy").exists()
    if not missing and not todo:
        return 0
    found = CellVectors.of(at / "run", **how)
    planted = np.array([identity in truth for identity in found.identities])
    for key, values in cell_scores.columns(found, missing, asked.seed):
        scores[_print(key, asked)] = _stamped(key._asdict() | result_rows.figures(values, planted))
    if todo:
        suspects = cell_scores.suspects(found)
        write_array(at / "suspects.npy", suspects.rows.astype(np.int64), synced=True)
        model[_model_print()] = _stamped(_of_model(suspects, cell_scores.groups(found), planted))
    write_json(at / "figures.json", {SCORES: scores, MODEL: model})
    return len(missing)


def measured(cell: Path, epoch: int, asked: Asked) -> Measured:
    """What is kept of what is asked; the model's figures are {} where they were never computed."""
    known = read_json(_at(cell, epoch) / "figures.json")
    stored = known.get(SCORES, {})
    scores = {key: stored[name] for key in wanted(asked) if (name := _print(key, asked)) in stored}
    model = known.get(MODEL, {}).get(_model_print(), {})
    stale = sum(one["code"] != code() for one in [*scores.values(), *([model] if model else [])])
    return Measured(model, scores, stale)


def dropped(cell: Path, epoch: int) -> set[tuple[str, str]]:
    """The identities of the rows that clipscan would drop."""
    at = _at(cell, epoch)
    chosen = np.load(at / "suspects.npy", allow_pickle=False)
    pairs = CellVectors.of(at / "run").identities
    return {pairs[row] for row in chosen}


@cache
def code() -> str:
    """Digest of the sources that make figures: clipscan/scores and what stands here, without comments and
    docstrings."""
    files: Iterable[Path] = sorted(Path(clipscan.scores.__file__).parent.glob("*.py"))
    files = [*files, *(Path(str(module.__file__)) for module in (cell_scores, metrics, result_rows))]
    return fingerprint([_tree(file.read_text(encoding="utf-8")) for file in files])[:8]


def _tree(source: str) -> str:
    """What a file does: its syntax without the docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and isinstance(node, ast.AsyncFunctionDef | ast.ClassDef | ast.FunctionDef | ast.Module)
            and ast.get_docstring(node) is not None
        ):
            del body[0]
    return ast.dump(tree)


def _at(cell: Path, epoch: int) -> Path:
    return cell / f"epoch{epoch:02d}"


def _print(key: Key, asked: Asked) -> str:
    return fingerprint(key, asked.seed, clipscan.__version__)


def _model_print() -> str:
    return fingerprint(MODEL, clipscan.__version__)


def _stamped(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"code": code()}


def _of_model(suspects: cell_scores.Suspects, groups: list[list[Array]], planted: Array) -> dict[str, Any]:
    """Columns of MODELS: what is flagged, and where in its list the planted group stands: the one with most
    of the poison, if most of it is poison."""
    ranked = [(place, members) for listed in groups for place, members in enumerate(listed, 1)]
    poison = [int(planted[members].sum()) for _, members in ranked]
    first = int(np.argmax(poison)) if poison else 0
    found = bool(poison) and 2 * poison[first] > len(ranked[first][1])
    return {
        "flagged": len(suspects.rows),
        "flagged_share": len(suspects.rows) / len(planted),
        "flagged_low": suspects.low,
        "flagged_high": suspects.high,
        "flagged_poison": int(planted[suspects.rows].sum()),
        "group_rank": ranked[first][0] if found else None,
        "group_share": float(poison[first] / planted.sum()) if found else None,
        "groups": len(ranked),
    }
