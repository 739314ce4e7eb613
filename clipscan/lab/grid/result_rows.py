"""Columns against the truth, and the tables of figures that a run of the laboratory leaves.

rows.csv        one row for each (dataset, attack, target, rate, seed, model, epoch, score, k, reference)
models.csv      one row for each (dataset, attack, target, rate, seed, model, epoch): behaviour, number to
                drop, groups
defended.csv    one row for each of these, after the last epoch, and each defence
partitions.csv  one row for each of these and each epoch of the defence that parted the pairs
heads.csv       one row for each model that was taken apart by heads (head_trials.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from clipscan.data.atomic import replacing
from clipscan.errors import RunError
from clipscan.lab.grid.evaluate import SHARES
from clipscan.lab.grid.metrics import auroc, average_precision, fpr_at, recall_at
from clipscan.run.file_io import write_table

RESAMPLES = 200
INTERVAL = (2.5, 97.5)  # per cent
DIGITS = 6

TEXT, COUNT, NUMBER = pa.string(), pa.int64(), pa.float64()
CASE = {
    "dataset": TEXT, "attack": TEXT, "target": TEXT, "options": TEXT, "rate": NUMBER, "seed": COUNT,
    "model": TEXT, "epoch": COUNT, "pairs": COUNT, "poisoned": COUNT,
    "success": NUMBER, "accuracy": NUMBER, "retrieval": NUMBER, "false_alarm": NUMBER,
}  # fmt: skip
RECALL = {share: f"recall_{share:.1%}".replace(".0%", "%").replace("%", "") for share in SHARES}
FLAGGED = {"flagged": COUNT, "flagged_share": NUMBER}
ROWS = pa.schema(
    CASE | {"score": TEXT, "k": COUNT, "reference": TEXT, "compat": TEXT}
    | {"auroc": NUMBER, "auroc_low": NUMBER, "auroc_high": NUMBER, "average_precision": NUMBER}
    | dict.fromkeys(RECALL.values(), NUMBER) | {"false_positives": COUNT, "false_positive_share": NUMBER}
    | {"fpr_95": NUMBER}
    | FLAGGED | {"cell": TEXT, "code": TEXT}
)  # fmt: skip
MODELS = pa.schema(
    CASE | FLAGGED | {"flagged_low": COUNT, "flagged_high": COUNT, "flagged_poison": COUNT}
    | {"precision": NUMBER, "planted_dropped": NUMBER}
    | {"group_rank": COUNT, "group_share": NUMBER, "groups": COUNT}
    | {"train_seconds": NUMBER, "cell": TEXT, "code": TEXT}
)  # fmt: skip
DEFENDED = pa.schema(
    CASE | {"defence": TEXT, "dropped": COUNT, "poison_left": COUNT, "success_after": NUMBER,
            "accuracy_after": NUMBER, "false_alarm_after": NUMBER, "seconds": NUMBER, "cell": TEXT}
)  # fmt: skip
PARTITIONS = pa.schema(
    CASE | {"defence": TEXT, "safe": COUNT, "share": NUMBER, "poison_safe": COUNT, "poison_rate": NUMBER,
            "cell": TEXT}
)  # fmt: skip
HEADS = pa.schema(
    CASE | {f"{name}_{by}": NUMBER for by in ("head", "mlp", "auto") for name in ("success", "accuracy")}
    | {f"auroc_{name}": NUMBER for name in ("infected_heads", "head", "mlp", "larger")}
    | {"flagged_clean": NUMBER, "flagged_triggered": NUMBER, "through_heads": NUMBER}
    | {"blocks": TEXT, "last_heads": TEXT, "cell": TEXT}
)  # fmt: skip
TABLES = {
    "rows": ROWS, "models": MODELS, "defended": DEFENDED, "partitions": PARTITIONS, "heads": HEADS,
}  # fmt: skip


def figures(values: NDArray[np.float64], truth: NDArray[np.bool_], seed: int = 0) -> dict[str, float | int]:
    """One column [n] against truth [n]: what stands between `auroc` and `fpr_95` in a row.

    A score that is not a number stands below all others. False positives: the clean
    rows at or above the lowest poison, which all go when the last poison goes: their share is the FPR at
    100 % TPR, fpr_95 that at 95 %. InputError when there is no poison, or nothing else.
    """
    column = np.nan_to_num(values, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    low, high = auroc_interval(column, truth, seed)
    clean = int((column[~truth] >= column[truth].min()).sum())
    return {
        "auroc": auroc(column, truth),
        "auroc_low": low,
        "auroc_high": high,
        "average_precision": average_precision(column, truth),
        **{name: recall_at(column, truth, share) for share, name in RECALL.items()},
        "false_positives": clean,
        "false_positive_share": clean / int((~truth).sum()),
        "fpr_95": fpr_at(column, truth, 0.95),
    }


def dropping(flagged: int, flagged_poison: int, poisoned: int) -> dict[str, float | None]:
    """What is dropped unasked: how much of it is poison, None where nothing is dropped; and how much of the
    poison it is, None where nothing is planted."""
    return {
        "precision": flagged_poison / flagged if flagged else None,
        "planted_dropped": flagged_poison / poisoned if poisoned else None,
    }


def auroc_interval(
    values: NDArray[np.float64], truth: NDArray[np.bool_], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % of the AUROCs of `resamples` redrawn sets (percentile bootstrap, Efron 1979).

    Only the poison is drawn again, with replacement, as often as there is of it; the clean rows stay, of
    which there are so many more that redrawing them would hardly widen the interval. AUROC is then the
    mean over the poison of the share of clean rows below it, ties counting half: one sort for a column,
    and one mean for a resample. The interval says what chance in the choice of poison does to the figure
    of one trained model; what another training would do is seen from seed to seed.
    """
    clean = np.sort(values[~truth])
    poison = values[truth]
    below = (np.searchsorted(clean, poison, "left") + np.searchsorted(clean, poison, "right")) / 2
    draw = np.random.default_rng(seed).integers(0, len(poison), (resamples, len(poison)))
    low, high = np.percentile(below[draw].mean(axis=1) / len(clean), INTERVAL)
    return float(low), float(high)


def write_rows(folder: Path, name: str, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """NAME.csv and NAME.parquet; figures to six digits, unknown ones empty."""
    rounded = [{key: _rounded(row.get(key)) for key in schema.names} for row in rows]
    table = pa.Table.from_pylist(rounded, schema)
    with replacing(folder / f"{name}.csv") as (draft,):
        pacsv.write_csv(table, draft, pacsv.WriteOptions(quoting_style="needed"))
    write_table(folder / f"{name}.parquet", table, synced=True)


def read_rows(folder: Path, name: str, schema: pa.Schema) -> list[dict[str, Any]]:
    """The rows of NAME.csv; RunError where there is none or it is another table."""
    path = folder / f"{name}.csv"
    if not path.exists():
        raise RunError(f"{folder} holds no {name}.csv; make it with: clipscan lab run CONFIG --out {folder}")
    options = pacsv.ConvertOptions(
        column_types=schema, include_columns=schema.names, strings_can_be_null=False
    )
    try:
        return list(pacsv.read_csv(path, convert_options=options).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise RunError(f"{path} is no table of this clipscan: {error}; run the laboratory again") from error


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return None if np.isnan(value) else round(value, DIGITS)
