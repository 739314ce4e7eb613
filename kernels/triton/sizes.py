"""Tile sizes, by reasoning and by what the compiler reports; not tuned, as no kernel of this folder has met a GPU yet.

The filter. A tile of 128 x 128 scores leaves 64 sums a thread to 8 warps: two tiles fit a multiprocessor, and one looks
for hits while the other multiplies. 128 x 256 would read a quarter less from L2, but its 128 sums a thread leave no room
for a second tile. Loads run `stages` ahead: a stage is 256 rows of `depth` bytes; two tiles' stages must fit shared memory.

The others work on a few thousand numbers a program, about 16 registers a thread. The interpreter pays for every
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
    part_warps: int = 8
    stages: int = 4
    numbers: int = 4096  # of a program of encode.py and copies.py
    lines: int = 8  # rows of a program of refine.py
    block: int = 128  # candidates that such a program looks at together
    pairs: int = 64  # pairs measured by a program
    launch: int = 1 << 21  # programs of a filter launch: about 0.1 s, so that Ctrl-C is heard


GPU = Sizes()  # 64 KB of stages a tile: two of them in the 164 KB of sm_80; one in the 100 KB of sm_86 and sm_89
HOPPER = Sizes(depth=128, stages=3)  # 96 KB of 228; rows of 128 bytes are what wgmma reads without bank conflicts
AMD = Sizes(stages=2)  # 64 KB of shared memory, filled from registers
INTERPRETER = Sizes(tile=64, part=64, numbers=1 << 14, lines=128, block=128, pairs=1 << 11)


def of_device(major: int | None, amd: bool) -> Sizes:
    """For a GPU of compute capability major.x; None is no GPU but the interpreter."""
    if major is None:
        return INTERPRETER
    return AMD if amd else HOPPER if major == 9 else GPU
