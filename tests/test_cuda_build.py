"""Every CUDA source compiles for both architectures, and no kernel spills registers."""

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


@pytest.mark.parametrize("architecture", ["80", "90a"])
@pytest.mark.parametrize("source", sorted(path.name for path in KERNELS.glob("*.cu")))
def test_kernels_compile_without_spills(source, architecture, tmp_path):
    if (nvcc := shutil.which("nvcc")) is None:
        pytest.skip("needs nvcc on the path")
    target = f"arch=compute_{architecture},code=sm_{architecture}"
    command = [nvcc, "-std=c++17", "-cubin", "-gencode", target, "-Xptxas", "-v", "-I", str(KERNELS)]
    done = subprocess.run(
        [*command, str(KERNELS / source), "-o", str(tmp_path / "out.cubin")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "warning" not in said and "C75" not in said, said  # C75..: wgmma serialised, setmaxnreg ignored
    spills = [int(count) for count in re.findall(r"(\d+) bytes spill", said)]
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", said)]
    assert registers and spills and not any(spills), said
    assert max(registers) <= LIMITS.get(Path(source).stem, 128), said
