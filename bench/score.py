"""`clipscan.score` on memory-mapped arrays: the default, consensus, beside dao, in turn.

    python bench/score.py [--n 200000] [--d 512] [--rounds 3] [--threads 2] [--methods dao,consensus]

Pictures and captions (float16, all different) are written to a temporary folder first; that is not timed.
Printed: CPU-seconds of each run, medians and how often that of the first method; memory, the largest
anonymous resident set seen during a call, less the one before it: the maps themselves do not count.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import tempfile

import numpy as np

import clipscan
from clipscan.bench import Watch, clustered, measure

ROWS = 50_000  # written at once
NOISE = 0.9  # length of what captions have beside their pictures, of length 1


def write_pairs(folder: str, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures in clusters, and captions that follow them by a rotation and noise: maps, float16 [n, d]."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0].astype(np.float32)
    maps = [
        np.lib.format.open_memmap(f"{folder}/{name}.npy", "w+", np.float16, (n, d))
        for name in ("pictures", "captions")
    ]
    for start in range(0, n, ROWS):
        pictures = clustered(min(ROWS, n - start), d, seed=start)
        noise = np.random.default_rng([1, start]).standard_normal(pictures.shape).astype(np.float32)
        captions = pictures @ turn + np.float32(NOISE / d**0.5) * noise
        captions /= np.linalg.norm(captions, axis=1, keepdims=True)
        for rows, values in zip(maps, (pictures, captions), strict=True):
            rows[start : start + ROWS] = values
            rows.flush()
    pictures, captions = (np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in ("pictures", "captions"))
    return pictures, captions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("n", 200_000), ("d", 512), ("rounds", 3), ("threads", os.cpu_count())):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--methods", default="dao,consensus", help="the first is what others are held against"
    )
    a = parser.parse_args()

    methods = a.methods.split(",")
    cpu: dict[str, list[float]] = {method: [] for method in methods}
    print(f"{a.n} x {a.d} float16, {a.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        pictures, captions = write_pairs(folder, a.n, a.d)
        for _, method in itertools.product(range(a.rounds), methods):
            ask = functools.partial(clipscan.score, pictures, text=captions, method=method, threads=a.threads)
            with Watch() as watch:
                wall, seconds, _ = measure(ask)
            cpu[method].append(seconds)
            print(
                f"{method:>10}: wall {wall:.1f} s  CPU {seconds:.1f} s  "
                f"memory beyond the maps {watch.beyond / 1e9:.2f} GB",
                flush=True,
            )
    first = statistics.median(cpu[methods[0]])
    for method, seconds in cpu.items():
        median = statistics.median(seconds)
        print(f"{method:>10}: median {median:.1f} CPU-s, {median / first:.1f} times {methods[0]}")


if __name__ == "__main__":
    main()
