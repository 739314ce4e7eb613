"""Measuring: what `clipscan bench` and the drivers in bench/ share.

driver.py  cases, data, the order of the runs
worker.py  one peer in one process: both ends of the line between it and the driver
exact.py   what the answers are worth: recall against float64, difference of scores
rows.py    bench/results.csv: columns, the machine's facts, the printed table
embed.py   the way into vectors, by itself: `clipscan bench embed`
decode.py  a JPEG to a model's pixels, beside other libraries (decode_ways.py): `clipscan bench decode`
kernels.py the CUDA engine's kernels, one by one: `clipscan bench kernels`; kernel_work.py says what each has
           to do, torch_peaks.py what torch reaches on the same GPU
records.py sections of one JSON file, added as they are measured: bench/gpu.sh
"""

from __future__ import annotations

from clipscan.bench.driver import KnnPlan, __getattr__, clustered, drive, parse_ks  # noqa: F401
from clipscan.bench.exact import exact_kth, recall
from clipscan.bench.rows import append, report, table
from clipscan.bench.worker import ITSELF, Peer, Watch, measure, serve

__all__ = [
    "ITSELF",
    "KnnPlan",
    "Peer",
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
