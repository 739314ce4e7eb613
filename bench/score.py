"""`clipscan.score` on a memory-mapped array: wall, CPU-seconds, memory beyond the map.

    python bench/score.py [--n 1000000] [--d 512] [--reference 1024x8] [--threads 2]

The array (float16, clustered) is written to a temporary folder first; that is not timed. Memory is the
largest anonymous resident set seen during the call, less the one before it: the map itself does not count.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
from knn import clustered, measure

import clipscan

ROWS = 50_000  # written at once


def resident() -> int:
    """Anonymous resident memory of this process in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10


class Watch(threading.Thread):
    """The largest resident() while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.peak = resident()
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.peak = max(self.peak, resident())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("n", 1_000_000), ("d", 512), ("threads", os.cpu_count())):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--reference", default="1024x8")
    a = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        rows = np.lib.format.open_memmap(f"{folder}/rows.npy", "w+", np.float16, (a.n, a.d))
        for start in range(0, a.n, ROWS):
            rows[start : start + ROWS] = clustered(min(ROWS, a.n - start), a.d, seed=start)
        rows.flush()
        rows = np.load(f"{folder}/rows.npy", mmap_mode="r")
        watch = Watch()
        watch.start()
        wall, cpu, _ = measure(lambda: clipscan.score(rows, reference=a.reference, threads=a.threads))
        watch.over.set()
    print(
        f"score n={a.n} d={a.d} float16 reference={a.reference} threads={a.threads}: wall {wall:.1f} s  "
        f"CPU {cpu:.1f} s  memory beyond the map {(watch.peak - watch.before) / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
