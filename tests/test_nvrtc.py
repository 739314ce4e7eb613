"""The filter's tiles compile while a program runs, without a GPU: bench/gpu/tiles.py tries them on one."""

import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("bench/: run from a checkout", allow_module_level=True)
sys.path.append(str(BENCH / "gpu"))
import nvrtc  # noqa: E402
import tiles  # noqa: E402

try:
    nvrtc.library()
except ImportError as reason:
    pytest.skip(str(reason), allow_module_level=True)


TASK_BYTES = 320  # of gpu::FilterTask on a 64-bit host


@pytest.mark.parametrize("architecture", ["compute_80", "sm_90a"])
def test_every_tile_compiles(architecture):
    names = [tile.name for tile in tiles.TILES]
    image, symbols = nvrtc.compiled(tiles.source(TASK_BYTES), names, architecture)
    assert len(set(symbols.values())) == len(tiles.TILES)
    for symbol in symbols.values():
        assert symbol.startswith("_ZN3gpu17filter_mma_kernel") and symbol.encode() in image


def test_a_struct_of_another_size_is_refused():
    with pytest.raises(nvrtc.Failed, match="static assertion failed"):
        nvrtc.compiled(tiles.source(TASK_BYTES + 8), [], "compute_80")


def test_what_does_not_compile_is_said_in_the_compilers_words():
    with pytest.raises(nvrtc.Failed, match="no_such_thing"):
        nvrtc.compiled("no_such_thing x;", [], "sm_90a")
