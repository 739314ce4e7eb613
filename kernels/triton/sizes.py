"""Tile sizes, by reasoning and by what the compiler reports; not tuned, as no kernel of this folder has met a
GPU yet.

The filter. 128 x 128 scores are 128 sums for each thread of 4 warps, and as many registers are left for all
else: two tiles fit a multiprocessor, and one looks for hits while the other multiplies. 8 warps of 64 sums
need 250 registers a thread as well, so that one tile would be alone. 128 x 256 would read a quarter less from
L2, and be alone too. Loads run ahead by one stage less than `stages`; a stage is 256 rows of `depth` codes.

The others work on a few thousand numbers a program, some ten a thread. The interpreter pays for every
operation and not for its size: large programs, but small tiles, so that small inputs have many.
"""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    tile: int = 128  # rows and columns of a tile, and the unit in which they are paired
    part: int = 64  # of a crowded tile
    depth: int = 64  # codes of a stage: 64 or 128
    group: int = 16  # neighbouring row tiles at work together: they share column tiles in L2
    warps: int = 4
    part_warps: int = 8  # a prefix sum over the part: with 4, registers spill
    stages: int = 4
    numbers: int = 4096  # of a program of encode.py and copies.py
    lines: int = 4  # rows of a program of refine.py, which is one warp: counting needs no barriers then
    block: int = 128  # candidates of each that it looks at together
    pairs: int = 64  # pairs measured by a program
    launch: int = 1 << 21  # programs of a filter launch: about 0.1 s, so that Ctrl-C is heard


# 48 KB of shared memory a tile: two fit sm_80 (164 KB), and sm_86 and sm_89 (100 KB).
GPU = Sizes()
# 96 KB, two fit 228. Rows of 128 bytes are what wgmma reads without bank conflicts, and half the barriers.
HOPPER = Sizes(depth=128, stages=3)
# 16 KB of 64; what runs ahead waits in registers.
AMD = Sizes(stages=2)
INTERPRETER = Sizes(tile=64, part=64, numbers=1 << 14, lines=128, block=128, pairs=1 << 11)


def of_device(major: int | None, amd: bool) -> Sizes:
    """For a GPU of compute capability major.x; None is no GPU but the interpreter."""
    if major is None:
        return INTERPRETER
    return AMD if amd else HOPPER if major == 9 else GPU
