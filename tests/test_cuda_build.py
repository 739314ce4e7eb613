"""Every CUDA source compiles for both architectures; no kernel spills registers or waits for them in vain."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parent.parent / "kernels" / "cuda"
LIMITS = {  # registers a thread may use: two blocks of 128 threads on a processor; one of 384
    "filter_mma": 255,
    "filter_wgmma": 168,
}


# source -> its warpgroups: how many give up registers, and how many take them
SHARING = {"filter_wgmma": (1, 2)}


def compiled(source, architecture, folder):
    """What nvcc says, and the PTX beside it in the folder."""
    if (nvcc := shutil.which("nvcc")) is None:
        pytest.skip("needs nvcc on the path")
    target = f"arch=compute_{architecture},code=sm_{architecture}"
    command = [nvcc, "-std=c++17", "-cubin", "-gencode", target, "-Xptxas", "-v", "-I", str(KERNELS)]
    command += ["--keep", "--keep-dir", str(folder), str(KERNELS / source), "-o", str(folder / "out.cubin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, (folder / source).with_suffix(".ptx").read_text()


def fits(registers, threads, give, take, warpgroups):
    """Whether a block of `threads`, launched with `registers` each, has what its warpgroups ask for."""
    givers, takers = warpgroups
    assert 128 * (givers + takers) == threads
    return 128 * (givers * give + takers * take) <= registers * threads


@pytest.mark.parametrize("architecture", ["80", "90a"])
@pytest.mark.parametrize("source", sorted(path.name for path in KERNELS.glob("*.cu")))
def test_kernels_compile_without_spills_and_ask_for_no_more_registers_than_there_are(
    source, architecture, tmp_path
):
    said, ptx = compiled(source, architecture, tmp_path)
    assert "warning" not in said and "C75" not in said, said  # C75..: wgmma serialised, setmaxnreg ignored
    spills = [int(count) for count in re.findall(r"(\d+) bytes spill", said)]
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", said)]
    assert registers and spills and not any(spills), said
    assert max(registers) <= LIMITS.get(Path(source).stem, 128), said

    asked = {which: int(count) for which, count in re.findall(r"setmaxnreg\.(\w+)\.\S+\s+(\d+)", ptx)}
    assert bool(asked) == (architecture == "90a" and Path(source).stem in SHARING)
    if asked:
        [used], [threads] = registers, map(int, re.findall(r"\.maxntid (\d+)", ptx))
        assert fits(used, threads, asked["dec"], asked["inc"], SHARING[Path(source).stem]), (used, asked)


def test_224_registers_for_two_warpgroups_of_three_are_too_many_where_the_third_keeps_64():
    assert not fits(168, 384, 64, 224, (1, 2))
    assert fits(168, 384, 56, 224, (1, 2)) and fits(168, 384, 40, 232, (1, 2))
