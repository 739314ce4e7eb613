"""`clipscan.score` on a memory-mapped array: wall, CPU-seconds, memory beyond the map.

    python bench/score.py [--n 1000000] [--d 512] [--reference 1024x8] [--threads 2]

The array (float16, clustered) is written to a temporary folder first; that is not timed. Memory is the
largest anonymous resident set seen during the call, less the one before it: the map itself does not count.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import numpy as np

import clipscan
from clipscan.bench import Watch, clustered, measure

ROWS = 50_000  # written at once


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
        with Watch() as watch:
            wall, cpu, _ = measure(lambda: clipscan.score(rows, reference=a.reference, threads=a.threads))
    print(
        f"score n={a.n} d={a.d} float16 reference={a.reference} threads={a.threads}: wall {wall:.1f} s  "
        f"CPU {cpu:.1f} s  memory beyond the map {watch.beyond / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
