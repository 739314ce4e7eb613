"""The core as a CMake package: installed, found by examples/cpp, and its tables those of clipscan.knn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clipscan

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "library"
FOLDERS = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
CMAKE = shutil.which("cmake", path=FOLDERS)

pytestmark = pytest.mark.skipif(CMAKE is None, reason="needs cmake: pip install 'clipscan[dev]'")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def nearest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built against an installed libclipscan as a stranger builds it."""
    to = tmp_path_factory.mktemp("package")
    run(CMAKE, "-S", ROOT, "-B", BUILD, "-DCLIPSCAN_PYTHON=OFF", "-DCLIPSCAN_LIBRARY=ON")
    run(CMAKE, "--build", BUILD, "--parallel", "2")
    run(CMAKE, "--install", BUILD, "--prefix", to / "installed")
    run(CMAKE, "-S", ROOT / "examples/cpp", "-B", to / "example", f"-DCMAKE_PREFIX_PATH={to / 'installed'}")
    run(CMAKE, "--build", to / "example")
    return to / "example" / "nearest"


def table(told: str) -> tuple[np.ndarray, np.ndarray]:
    cells = [[cell.split(":") for cell in line.split()] for line in told.splitlines()]
    distance = np.array([[float(far) for _, far in row] for row in cells], np.float32)
    return distance, np.array([[int(index) for index, _ in row] for row in cells])


@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (97, 3, 5), (400, 64, 16), (1500, 50, 9)])
def test_tables_are_those_of_python_bit_for_bit(
    nearest: Path, n: int, d: int, k: int, tmp_path: Path
) -> None:
    rows = np.random.default_rng(n).normal(size=(n, d)).astype(np.float32) + 3
    rows[n // 2 :: 3] = rows[0]  # copies, and ties among them
    rows.tofile(tmp_path / "rows")
    distance, index = table(run(nearest, str(d), str(k), tmp_path / "rows"))
    expected = clipscan.knn(rows, k=k)
    assert (index == expected.index).all() and (distance == expected.distance).all()
    queries = rows[::2] + np.float32(0.1)
    queries.tofile(tmp_path / "queries")
    distance, index = table(run(nearest, str(d), str(k), tmp_path / "queries", tmp_path / "rows"))
    expected = clipscan.knn(queries, rows, k=k)
    assert (index == expected.index).all() and (distance == expected.distance).all()


def test_what_cannot_be_served_is_refused_in_words(nearest: Path, tmp_path: Path) -> None:
    rows = np.ones((9, 4), np.float32)
    rows[7, 1] = np.nan
    rows.tofile(tmp_path / "rows")
    for arguments, words in (
        (("4", "9"), "k must lie between 1 and 8, got 9"),
        (("4", "0"), "k must lie between 1 and 8, got 0"),
        (("0", "1"), "k must lie between"),
        (("4", "2"), "row 7 holds NaN or infinity"),
    ):
        done = subprocess.run([nearest, *arguments, tmp_path / "rows"], capture_output=True, text=True)
        assert done.returncode == 1 and words in done.stderr


def test_nothing_but_the_interface_is_seen_from_outside(nearest: Path) -> None:
    nm = shutil.which("nm")
    if nm is None or sys.platform != "linux":
        pytest.skip("needs nm, on Linux")
    [library] = (nearest.parent.parent / "installed").glob("lib*/libclipscan.so")
    lines = [line.split(maxsplit=2) for line in run(nm, "-DC", "--defined-only", library).splitlines()]
    strong = [name for _, kind, name in lines if kind in "TDBR"]  # weak ones are of the standard library
    assert len(strong) == 2 and all(name.startswith("clipscan::knn(") for name in strong)


def test_the_package_has_clipscans_version() -> None:
    assert f"set(CLIPSCAN_VERSION {clipscan.__version__})" in (ROOT / "CMakeLists.txt").read_text()
