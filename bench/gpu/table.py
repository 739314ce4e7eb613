"""python bench/gpu/table.py FILE: what bench/gpu.sh has measured so far, in fewer than a hundred lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clipscan.bench import records
from clipscan.bench.kernels import SHOWN
from clipscan.bench.rows import grid

Row = dict[str, Any]

SEARCHES = {
    "backend": "back-end",
    "dtype": "type",
    "n": "n",
    "d": "d",
    "k": "k",
    "reference": "scores, reference",
    "seconds_p20": "p20",
    "seconds_median": "median",
    "seconds_p80": "p80 s",
    "device_seconds": "task s",
    "pflops": "PFLOP/s",
    "share_int8": "of int8",
    "share_bf16": "of bf16",
    "passed_per_row": "passed",
    "measured_per_row": "measured",
    "recall": "recall",
    "memory_gb": "GB",
}
SCALING = ("devices", "tasks", "seconds", "speedup", "share_at_work")
TILES = ("tile", "ms_median", "rate", "registers", "spilled_bytes", "passed")
PEAKS = ("int8", "bf16")
LOUD = re.compile("FAILED|STOPPED|WRONG|left out|[1-9][0-9]* (failed|error)|not finished|tests/")


def told(rows: Sequence[Row], shown: Callable[[Sequence[Row]], str]) -> list[str]:
    """The rows that were measured as a table, the others in a line each."""
    measured = [row for row in rows if "failed" not in row]
    failed = [f"  FAILED {row['case']}: {row['failed']}" for row in rows if "failed" in row]
    return [shown(measured)] * bool(measured) + failed


def peers(rows: Sequence[Row]) -> str:
    """A line a peer, TFLOP/s at each size; the lowest recall; who is missing, once."""
    by_peer: dict[str, Row] = {}
    missing: dict[str, str] = {}
    for row in rows:
        if "left_out" in row:
            missing.setdefault(row["peer"], row["left_out"])
            continue
        line = by_peer.setdefault(row["peer"], {"peer": row["peer"], "recall": 1.0})
        line[f"d={row['d']} k={row['k']}"] = row["tflops"]
        line["recall"] = min(line["recall"], row["recall"])
    sizes = dict.fromkeys(name for line in by_peer.values() for name in line if "=" in name)
    headings = {"peer": "TFLOP/s", **{size: size for size in sizes}, "recall": "recall"}
    out = [f"  left out: {name}, {reason}" for name, reason in missing.items()]
    return "\n".join([grid(list(by_peer.values()), headings)] * bool(by_peer) + out)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "kernels": lambda rows: grid(rows, SHOWN),
    "end-to-end": lambda rows: grid(rows, SEARCHES),
    "peers": peers,
    "sweep": lambda rows: grid(rows, SEARCHES),
    "scaling": lambda rows: grid(rows, {name: name.replace("_", " ") for name in SCALING}),
    "tiles": lambda rows: grid(rows, {name: name.replace("_", " ") for name in TILES}),
}


def in_words(said: dict[str, str]) -> list[str]:
    """What went well in one line; a line for each of the others."""
    well = [f"{name} {words}" for name, words in said.items() if not LOUD.search(words)]
    loud = [f"  {name}: {words}" for name, words in said.items() if LOUD.search(words)]
    return [f"  {'; '.join(well)}"] * bool(well) + loud


def shares(row: Row, peaks: dict[str, float]) -> Row:
    """What a search reaches of torch's matrix products in that run, counted as 2 n n d, whatever was done."""
    return {f"share_{name}": row["pflops"] * 1e3 / rate for name, rate in peaks.items() if "pflops" in row}


def page(found: dict[str, Any]) -> str:
    lines: list[str] = []
    for section in ("facts", "steps", "smoke", "tests"):
        lines += [section, *in_words(found.get(section, {}))]
    peaks = {row["kernel"]: row["rate"] for row in found.get("kernels", []) if row["kernel"] in PEAKS}
    for section, shown in TABLES.items():
        if rows := found.get(section):
            lines += [section, *told([row | shares(row, peaks) for row in rows], shown)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(records.read(Path(sys.argv[1]))))
