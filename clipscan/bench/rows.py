"""bench/results.csv: its columns, the facts of this machine, medians; the same rows as a printed table."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from clipscan import _core
from clipscan.bench.worker import Row
from clipscan.errors import ClipscanError, InputError

COLUMNS = (
    "date", "commit", "cpu", "instruction_set", "case", "data", "peer", "version",
    "n", "d", "k", "threads", "rounds",
    "wall_p20", "wall_median", "wall_p80",  # seconds
    "cpu_p20", "cpu_median", "cpu_p80",  # CPU-seconds, all threads together
    "gflop_per_cpu_s",  # counted as 2 n n d, whatever was computed
    "int8_peak", "float32_peak",  # GOP/s and GFLOP/s of one core, measured
    "share_int8", "share_float32",  # gflop_per_cpu_s / peak
    "measured_per_row", "passed_per_row",  # pairs measured in float32, pairs past the filter
    "recall", "recall_outliers",  # up to ties; the latter on the 1 % with the highest exact LOF
    "score_difference",  # largest relative one from scikit-learn's
    "memory_mb",  # peak anonymous memory beyond what was resident before, result included
)  # fmt: skip
SHOWN = {  # column -> heading of the printed table
    "case": "case",
    "peer": "peer",
    "k": "k",
    "wall_p20": "wall p20",
    "wall_median": "median",
    "wall_p80": "p80 s",
    "cpu_median": "CPU-s",
    "gflop_per_cpu_s": "GFLOP/CPU-s",
    "share_int8": "of int8",
    "share_float32": "of f32",
    "measured_per_row": "measured",
    "passed_per_row": "passed",
    "recall": "recall",
    "recall_outliers": "outliers",
    "score_difference": "difference",
    "memory_mb": "MB",
}


def machine() -> Row:
    """What is the same in all rows of one benchmark."""
    peak = _core.peak(threads=1)
    kernel, *others = _core.instruction_sets()
    beside = {
        name: _core.peak(threads=1, instruction_set=name)["int8"] for name in others[:1] if kernel == "amx"
    }
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "cpu": processor(),
        "instruction_set": kernel,
        "int8_peak": peak["int8"],
        "float32_peak": peak["float32"],
        "int8_beside": beside,  # not a column: what AMX is worth here
    }


def processor() -> str:
    """The model name as the system gives it."""
    info = Path("/proc/cpuinfo")
    models = (
        [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return models[0].partition(":")[2].strip() if models else platform.processor()


def commit() -> str:
    """Short hash of the checkout that this package lies in, "+" where it was changed; "" without one. COMMIT
    in the environment goes before: for a copy of a checkout."""
    if told := os.environ.get("COMMIT"):
        return told
    here = Path(__file__).parent
    top = Path(_git(here, "rev-parse", "--show-toplevel") or "/")
    if not (top / "clipscan" / "bench").is_dir():  # installed inside somebody else's checkout
        return ""
    changed = _git(top, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results.csv")
    return _git(top, "rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def spread(runs: Sequence[Row], name: str) -> Row:
    """The 20th, 50th and 80th percentile of runs[.][name], in its unit."""
    p20, median, p80 = np.percentile([run[name] for run in runs], [20, 50, 80])
    return {f"{name}_p20": p20, f"{name}_median": median, f"{name}_p80": p80}


def rates(row: Row) -> Row:
    """Effective GFLOP per CPU-second, counted as 2 n n d, and its share of one core's measured peaks."""
    rate = 2 * row["n"] ** 2 * row["d"] / 1e9 / row["cpu_median"]
    shares = {f"share_{unit}": rate / row[f"{unit}_peak"] for unit in ("int8", "float32")}
    return {"gflop_per_cpu_s": rate, **shares}


def append(file: Path, rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> None:
    """Adds rows to a CSV file by their columns, with the header where the file is new."""
    new = not file.exists() or file.stat().st_size == 0
    if not new and (head := file.open().readline().strip()) != ",".join(columns):
        raise InputError(f"{file} has other columns ({head[:60]}...); name another file or move it away")
    with file.open("a", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        if new:
            writer.writerow(columns)
        writer.writerows([_text(row.get(column)) for column in columns] for row in rows)


def table(rows: Sequence[Row]) -> str:
    """What was measured, in words, and the rows below one another."""
    first = rows[0]
    beside = "".join(f" ({name} {rate:.0f})" for name, rate in first.get("int8_beside", {}).items())
    said = (
        f"{first['n']:,} x {first['d']} float32, {first['data']}; {first['rounds']} rounds; "
        f"{first['threads']} threads of {first['cpu']} ({first['instruction_set']})\n"
        f"GFLOP counted as 2 n n d; peaks of one core: int8 {first['int8_peak']:.0f} GOP/s{beside}, "
        f"float32 {first['float32_peak']:.0f} GFLOP/s"
    )
    return f"{said}\n{grid(rows, SHOWN)}"


def grid(rows: Sequence[Row], headings: Mapping[str, str]) -> str:
    """Rows below one another under the headings of their columns; columns that none fills left out."""
    shown = [column for column in headings if any(row.get(column) is not None for row in rows)]
    lines = [[headings[c] for c in shown], *([_text(row.get(c)) for c in shown] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)


def report(
    rows: Iterable[Row],
    file: Path | None = None,
    columns: Sequence[str] = COLUMNS,
    shown: Callable[[Sequence[Row]], str] = table,
) -> str:
    """The table of all rows, each appended to the CSV file as soon as it is measured."""
    measured: list[Row] = []
    if file:
        append(file, [], columns)  # refuses before anything is measured
    for row in rows:
        measured.append(row)
        if file:
            append(file, [row], columns)
    if not measured:
        raise ClipscanError("nothing was measured: every peer was left out, see above")
    return shown(measured)


def _text(value: object) -> str:
    """Numbers to five significant digits, enough to tell a recall of 0.99998 from 1; unknown ones empty."""
    if value is None or value != value:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
