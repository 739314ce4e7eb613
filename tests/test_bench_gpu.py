"""The GPU benchmark tells right from wrong, and says what it leaves out, before it sees a GPU.

On a simulated device, and on a real one where there is one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipscan import bench
from clipscan.bench import records
from clipscan.engine import as_rows, cpu, cuda, reference
from clipscan.engine.limits import Counts

BENCH = Path(__file__).parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("bench/: run from a checkout", allow_module_level=True)
sys.path.append(str(BENCH / "gpu"))
import smoke  # noqa: E402
from table import page  # noqa: E402

KERNELS = [name for name in smoke.CHECKS if name != "triton"]


# ---- the smoke


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("size", [smoke.SMALL, (650, 130, 9)])
def test_right_kernels_pass(device, capsys, name, size):
    if "wgmma" in name and device.capability(0)[0] != 9:
        pytest.skip("the wgmma kernel needs a device of compute capability 9.0")
    assert smoke.run(name, [size]) == 0, capsys.readouterr().out


def planted(monkeypatch, name):
    """The right answer, or what the kernel found, with one number off."""
    if name == "encode":
        exact = reference.encode
        monkeypatch.setattr(reference, "encode", lambda x, book: (off(exact(x, book)[0]), exact(x, book)[1]))
    elif name == "copies":
        exact = cuda.CudaEngine.first_of
        monkeypatch.setattr(cuda.CudaEngine, "first_of", lambda self, held: off(exact(self, held)))
    elif name == "density":
        exact = cuda.CudaEngine.density
        monkeypatch.setattr(
            cuda.CudaEngine, "density", lambda *given: {n: off(c) for n, c in exact(*given).items()}
        )
    elif name.startswith("tables"):
        exact = cpu.within
        monkeypatch.setattr(cpu, "within", lambda *given: (exact(*given)[0], off(exact(*given)[1])))
    else:
        monkeypatch.setattr(smoke.reference, "encode", coarser(reference.encode))


def off(column):
    column = column.copy()
    column.reshape(-1)[len(column) // 3] += 1
    return column


def coarser(encode):
    def changed(x, book):
        codes, error = encode(x, book)
        return np.where(codes > 60, codes - 1, codes), error

    return changed


@pytest.mark.parametrize("name", KERNELS)
def test_a_planted_error_is_noticed_by_name(device, monkeypatch, capsys, name):
    if "wgmma" in name and device.capability(0)[0] != 9:
        pytest.skip("the wgmma kernel needs a device of compute capability 9.0")
    planted(monkeypatch, name)
    assert smoke.run(name, [smoke.SMALL]) == 1
    assert capsys.readouterr().out.startswith(f"{name}: WRONG at {smoke.SMALL}: Wrong: ")


def test_a_library_that_is_not_there_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(smoke.triton, "available", lambda: "needs triton")
    assert smoke.run("triton", [smoke.SMALL]) == smoke.LEFT_OUT
    assert capsys.readouterr().out == "triton: left out: back-end 'triton' needs triton\n"


# ---- without a GPU


def test_the_script_says_that_there_is_no_gpu(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", BENCH / "gpu.sh", tmp_path / "out"],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )
    assert done.returncode == 1 and "no NVIDIA GPU here" in done.stderr
    assert not (tmp_path / "out").exists()


# ---- what an answer is worth, on the device


def test_recall_on_the_device_is_that_of_the_direct_form():
    pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
    import torch
    from answers import recall

    x = bench.clustered(700, 24)
    _, index = cpu.within(as_rows(x), 6, 1, 1 << 30, Counts())
    rows, table = torch.from_numpy(x), torch.from_numpy(index)
    assert recall(rows, table, 6) == recall(rows, table.flip(1), 6) == 1
    some = np.random.default_rng(1).choice(700, 500, replace=False)
    for wrong in (
        some[0],
        -1,
        index[some[0], 1],
        index[some[1], 5],
    ):  # itself, nobody, twice, somebody else's
        table[some[0], 0] = int(wrong)
        found = recall(rows, table, 6)
        assert found < 1
        assert found == pytest.approx(bench.recall(x, table.numpy(), some, bench.exact_kth(x, some, 6)))
        table[some[0], 0] = int(index[some[0], 0])


def test_a_row_is_taken_out_of_its_own_neighbours():
    pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
    import torch
    from peers import without_self

    index = torch.tensor([[0, 3, 2], [2, 1, 0], [3, 0, 1], [1, 0, 3]])  # row 2: copies took its place
    assert without_self(index).tolist() == [[3, 2], [2, 0], [3, 0], [1, 0]]


# ---- the file, and what is printed of it


def test_a_section_is_added_to_and_the_others_stay(tmp_path):
    file = tmp_path / "new" / "run.json"
    assert records.read(file) == {}
    records.put(file, "facts", {"device": "H200"})
    for n in (1, 2):
        records.add(file, "kernels", {"n": np.int32(n), "ms": np.float32(0.5)})
    subprocess.run([sys.executable, "-P", records.__file__, file, "facts", "commit", "abc"], check=True)
    assert json.loads(file.read_text()) == {
        "facts": {"device": "H200", "commit": "abc"},
        "kernels": [{"n": 1, "ms": 0.5}, {"n": 2, "ms": 0.5}],
    }
    assert [path.name for path in file.parent.iterdir()] == ["run.json"]


def test_the_table_of_a_whole_run_is_short_and_loud_about_what_failed():
    kernel = {"kernel": "encode", "ms_median": 1.0, "rate": 2.0, "unit": "GB/s"}
    search = {"backend": "triton", "n": 9, "d": 8, "k": 1, "seconds_median": 1.0, "recall": 1.0}
    sizes = [(d, k) for d in (512, 1024) for k in (16, 32, 64)]
    peers = [
        {"peer": peer, "d": d, "k": k, "tflops": 1.0, "recall": 0.9 if d == 512 else 1.0}
        for d, k in sizes
        for peer in "abcdef"
    ]
    missing = [{"peer": "cuvs", "d": d, "k": k, "left_out": "not installed"} for d, k in sizes]
    found = {
        "facts": {str(n): "known" for n in range(20)},
        "steps": {"build": "done, 9 s", "tests": "STOPPED at its limit"},
        "smoke": dict.fromkeys(smoke.CHECKS, "ok, 1 s") | {"copies": "WRONG: hangs"},
        "tests": {"cuda": "70 passed in 9 s", "triton": "1 failed, 60 passed in 9 s"},
        "kernels": [kernel] * 20,
        "end-to-end": [search] * 4,
        "peers": missing + peers,
        "sweep": [search] * 9 + [{"case": "scores all", "failed": "DeviceLost"}],
        "scaling": [{"devices": n, "speedup": 1.9} for n in (2, 4, 8)],
        "tiles": [{"tile": "128 x 128", "ms_median": 1.0}] * 9,
    }
    lines = page(found).splitlines()
    assert len(lines) < 100
    for alone in (
        "  copies: WRONG: hangs",
        "  tests: STOPPED at its limit",
        "  FAILED scores all: DeviceLost",
    ):
        assert alone in lines
    assert "  triton: 1 failed, 60 passed in 9 s" in lines and "  left out: cuvs, not installed" in lines
    assert sum("0.9" in line for line in lines) == 6  # the lowest recall of each peer
    assert page({"facts": {"device": "H200"}})  # a run that was cut short
