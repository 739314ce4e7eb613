"""python tests/triton_compile.py cuda:90 [verbose]: compiles every kernel as searches launch it, for a GPU
that is not here.

The launching functions are called as in a search, on a few rows; a driver that knows nothing but the GPU's
name stands in for the real one, and compiled kernels are not started. Exits with 77 and a reason where the
compiler is missing.
"""

import re
import subprocess
import sys

import numpy as np
import torch
from triton.backends import backends
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from clipscan.engine import Counts, as_rows, codebook
from clipscan.engine import triton as door

EXACT = ("transform", "quantise", "measure")  # a fused multiply-add there would change codes or distances
OTHERS = ("hash_rows", "filter_tiles", "filter_tiles crowded", "tighten", "merge")
compiled = {}  # name -> what came of it, one for each way in which it is launched


class NoDriver:
    def __init__(self, target):
        self._target = target

    def get_current_target(self):
        return self._target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def compile_only(run):
    def instead(self, *arguments, grid, warmup, **options):
        kernel = run(self, *arguments, grid=grid, warmup=True, **options)
        name = self.fn.__name__ + (" crowded" if options.get("CROWDED") else "")
        compiled.setdefault(name, {})[kernel.hash] = kernel
        if name == "filter_tiles":
            crowds = arguments[-1]
            crowds[0] = 1
        return kernel

    return instead


def launch_all(sizes):
    """What searches launch: among rows, between two sides, rows on the host, and again for rows that
    overflowed.
    """
    search, engine = door._kernels("search"), door._kernels("engine").TritonEngine
    x = as_rows(np.random.default_rng(0).standard_normal((320, 3 * sizes.depth)).astype(np.float16))
    for resident in (None, 0):
        held = engine("cpu", sizes, resident).load(x, codebook.fit([x]))
        one, two = (search.begin(held, span, 5, None, 256) for span in ((0, 160), (160, 320)))
        for side in (one, two):
            for column in (side.state.count, side.state.wanted, side.state.waiting):
                column.fill_(3)
        among = search.Search(one, one, (None, None), Counts())
        if resident == 0:
            among._measure(one, held, None, one.state.wanted, 3)
            return
        ids = torch.arange(320)
        search.Search(one, two, (None, None), Counts()).visit(0, 1)
        search.Search(one, search.only_met(held, (0, 320)), (ids, ids), Counts()).visit(0, 1)
        among.visit(0, 1)
        among.visit_again(one, torch.arange(16, dtype=torch.int32), search.Piece(False, 1, 2))
        for mode in range(3):
            among.refine(one, mode)


def resources(kernel, target):
    """What ptxas says of registers and spills; nothing for others."""
    if target.backend != "cuda":
        return f"{kernel.metadata.shared} bytes shared"
    from triton import knobs

    arch = f"sm_{target.arch}{'a' if target.arch == 90 else ''}"
    said = subprocess.run(
        [knobs.nvidia.ptxas.path, "-v", f"-arch={arch}", "-", "-o", "/dev/null"],
        input=kernel.asm["ptx"], capture_output=True, text=True,
    ).stderr  # fmt: skip
    registers, spilled = (
        re.findall(r"Used (\d+) registers", said),
        re.findall(r"(\d+) bytes spill stores", said),
    )
    return f"{kernel.metadata.shared} bytes shared, registers {registers}, bytes spilled {spilled}"


def main(name, verbose=False):
    backend, arch = name.split(":")
    nvidia = backend == "cuda"
    if ("nvidia" if nvidia else "amd") not in backends:
        print(f"triton: this build has no compiler for {backend}")
        sys.exit(77)
    target = GPUTarget("cuda", int(arch), 32) if nvidia else GPUTarget("hip", arch, 64)
    driver.set_active(NoDriver(target))
    JITFunction.run = compile_only(JITFunction.run)
    launch_all(door._kernels("sizes").of_device(target.arch // 10 if nvidia else 9, not nvidia))

    assert set(compiled) == {*EXACT, *OTHERS}, compiled.keys()
    for kernel_name, variants in compiled.items():
        for kernel in variants.values():
            if nvidia and kernel_name in EXACT:  # AMD's square root has some of its own
                assert "fma" not in kernel.asm["ptx"], kernel_name
            if verbose:
                print(f"{kernel_name}: {resources(kernel, target)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
