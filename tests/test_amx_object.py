"""The compiled AMX kernel does what its source says; without AMX its tile instructions are trapped."""

import os
import subprocess
import sys

import pytest

from clipscan import _core

FLAG_PROBE = [os.environ.get("CXX", "c++"), "-mamx-int8", "-E", "-xc++", os.devnull]


def test_the_object_and_its_source_agree_on_random_tiles():
    if "avx512" not in _core.instruction_sets() or sys.platform != "linux":
        pytest.skip("needs Linux and AVX-512 VNNI, by which the AMX kernel compares")
    cuda_sim = pytest.importorskip("cuda_sim", reason="needs pybind11 and cmake: pip install 'clipscan[dev]'")
    if subprocess.run(FLAG_PROBE, capture_output=True).returncode:
        pytest.skip("needs a compiler with -mamx-int8")
    cuda_sim.make("amx_object")
    done = subprocess.run([cuda_sim.BUILD / "amx_object"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    how, ended = done.stdout.split(": 0 wrong; ended at")
    assert how == ("trapped" if _core.why_not_amx() else "native")
    assert all(int(count) > 20 for count in ended.split()), "examples end at every stop"
