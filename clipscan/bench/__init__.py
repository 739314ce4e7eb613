"""Measuring: what `clipscan bench` and the drivers in bench/ share.

driver.py  cases, data, the order of the runs
worker.py  one peer in one process: both ends of the line between it and the driver
exact.py   what the answers are worth: recall against float64, difference of scores
rows.py    bench/results.csv: columns, the machine's facts, the printed table
embed.py   the way into vectors, by itself: `clipscan bench embed`
kernels.py the CUDA engine's kernels, one by one: `clipscan bench kernels`
records.py sections of one JSON file, added as they are measured: bench/gpu.sh
"""

from __future__ import annotations

from clipscan.bench.driver import Plan, clustered, drive, parse_ks
from clipscan.bench.exact import exact_kth, recall
from clipscan.bench.rows import append, report, table
from clipscan.bench.worker import ITSELF, Peer, Watch, measure, serve

__all__ = [
    "ITSELF",
    "Peer",
    "Plan",
    "Watch",
    "append",
    "clustered",
    "drive",
    "exact_kth",
    "measure",
    "parse_ks",
    "recall",
    "report",
    "serve",
    "table",
]
