"""`clipscan doctor`: facts where a probe works, a reason where it does not, never a traceback."""

import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import clipscan
from clipscan import _core, cli, doctor, engine

SECTIONS = ["system", "cpu", "torch", "devices", "back-ends", "packages", "pictures"]
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.fixture(scope="module")
def found():
    return doctor.examine()


@pytest.fixture
def torch_that(tmp_path, monkeypatch):
    """Plants a package `torch` before the real one."""

    def plant(code):
        (tmp_path / "torch.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    return plant


def heard(name, seconds=60.0):
    return doctor._heard(doctor._start(name), time.monotonic() + seconds)


def test_every_section_tells_what_is_here(found):
    assert list(found) == SECTIONS
    assert found["system"]["clipscan"] == clipscan.__version__
    assert found["cpu"]["usable cores"] == engine.cores()
    assert found["cpu"]["instruction sets"] == _core.instruction_sets()
    assert found["cpu"]["kernel in use"] == _core.instruction_sets()[0] != "amx_plain"
    assert (found["cpu"]["AMX"] == "ready") == ("amx" in _core.instruction_sets())
    assert re.match(r"\d+\.", found["pictures"]["Pillow"])
    assert found["pictures"]["scaled by"].startswith(("clipscan (", "Pillow, half as fast"))
    assert "failed" not in found["torch"] | found["devices"] | found["packages"]


def test_a_refused_amx_is_told_with_its_reason(monkeypatch):
    monkeypatch.setattr(_core, "why_not_amx", lambda: "this processor has no AMX for int8")
    monkeypatch.setattr(_core, "instruction_sets", lambda: ["avx512", "base"])
    told = doctor.page({"cpu": doctor.cpu()})
    assert re.search(r"kernel in use +avx512\n", told)
    assert re.search(r"AMX +no: this processor has no AMX for int8", told)


def test_what_is_missing_names_what_brings_it(monkeypatch):
    monkeypatch.setitem(doctor.OPTIONAL, "nowhere", ("'clipscan[s3]'", "no-such-distribution"))
    monkeypatch.setitem(doctor.OPTIONAL, "json", ("json", "no-such-distribution"))
    told = doctor.packages()
    assert told["nowhere"] == "missing: pip install 'clipscan[s3]'"
    assert told["json"] == "there, of unknown version"


@pytest.mark.skipif(not PYPROJECT.exists(), reason="pyproject.toml: run from a checkout")
def test_the_remedies_are_the_extras_that_bring_it():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    extras["embed"].append("torchvision")  # open_clip brings it
    for module, (remedy, *distributions) in doctor.OPTIONAL.items():
        bring = [
            f"'clipscan[{name}]'"
            for name, needs in extras.items()
            if name not in ("all", "bench", "dev")
            and {re.split(r"[^\w-]", n)[0] for n in needs} & {*distributions}
        ]
        assert remedy in (bring or distributions), module


def test_a_probe_that_raises_is_a_reason(monkeypatch):
    def broken():
        raise OSError("the disk\nis gone")

    monkeypatch.setitem(doctor.PROBES, "packages", broken)
    monkeypatch.setattr(doctor, "APART", ())
    monkeypatch.setitem(doctor.PROBES, "torch", lambda: {"version": "2"})
    told = doctor.examine()
    assert told["packages"] == {"failed": "OSError: the disk is gone"}
    assert list(told) == SECTIONS and "  failed  OSError: the disk is gone" in doctor.page(told)


@pytest.mark.parametrize(
    "code, reason",
    [
        ("import os; os.kill(os.getpid(), 11)", "was killed by signal 11"),
        (
            "import os, sys; print('bad driver', file=sys.stderr, flush=True); os._exit(3)",
            "code 3: bad driver",
        ),
        ("raise ImportError('libcudart.so.13: no such file')", "ImportError: libcudart.so.13"),
        ("import os; os._exit(0)", "without a word"),
    ],
)
def test_a_torch_that_breaks_is_a_reason(torch_that, code, reason):
    torch_that(code)
    assert reason in heard("torch")["failed"]


def test_a_torch_that_hangs_is_cut_off(torch_that):
    torch_that("import time; time.sleep(60)")
    assert "no answer in time" in heard("torch", 0.5)["failed"]


GPU = """
from types import SimpleNamespace as S
__version__ = "9.0+fake"
version = S(cuda="13.0", hip=None)
def init(): raise RuntimeError("Found no NVIDIA driver\\non your system.")
facts = S(name="Fake GPU", total_memory=80 << 30, major=9, minor=0)
cuda = S(is_available=lambda: {seen}, init=init)
cuda.device_count, cuda.get_device_properties = lambda: 1, lambda number: facts
print("a banner that some packages print")
"""


def test_a_gpu_that_torch_sees_is_described(torch_that):
    torch_that(GPU.format(seen=True))
    assert heard("torch") == {
        "version": "9.0+fake",
        "CUDA": "13.0, 1 device",
        "cuda:0": {"name": "Fake GPU", "memory": "81920 MiB", "compute_capability": "9.0"},
    }


def test_a_gpu_that_torch_does_not_see_has_its_reason(torch_that):
    torch_that(GPU.format(seen=False))
    assert heard("torch")["CUDA"] == "no: Found no NVIDIA driver on your system."


def test_torch_is_neither_needed_nor_imported_here(monkeypatch):
    code = (
        "import sys; from clipscan import doctor; doctor.examine(); "
        "assert not {'torch', 'clipscan._core', 'PIL'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.torch_and_cuda() == {"missing": "pip install 'clipscan[embed]'"}


def test_a_back_end_is_ready_or_says_why_not(monkeypatch):
    reasons = {"cpu": None, "cuda": "needs a GPU"}
    monkeypatch.setattr(engine, "reasons", lambda: reasons, raising=False)
    assert doctor.backends() == {"cpu": "ready", "cuda": "no: needs a GPU"}


@pytest.mark.parametrize(
    "script, told",
    [
        (
            "echo 'NVIDIA H200, 143771 MiB, 9.0, 570.1'; echo 'NVIDIA A100, 40960 MiB, 8.0, 570.1'",
            {"name": "NVIDIA A100", "memory": "40960 MiB", "compute_capability": "8.0", "driver": "570.1"},
        ),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", None),
        ("true", None),
    ],
)
def test_devices_are_those_of_nvidia_smi(tmp_path, monkeypatch, script, told):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = doctor.devices()
    if told:
        assert list(found) == ["0", "1"] and found["1"] == told
        assert "1  name NVIDIA A100, memory 40960 MiB, compute capability 8.0" in doctor.page(
            {"devices": found}
        )
    else:
        assert list(found) == ["none"] and ("mismatch" in found["none"] or "lists none" in found["none"])


@pytest.mark.parametrize("loaded", [False, True])
def test_without_nvidia_smi_a_driver_is_there_or_not(tmp_path, monkeypatch, loaded):
    (tmp_path / "version").write_text("NVRM version")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "DRIVER_FILES", (str(tmp_path / ("version" if loaded else "none")),))
    said = "a driver is loaded, but nvidia-smi is not here" if loaded else "no NVIDIA driver here"
    assert said.replace("a driver", "an NVIDIA driver") in doctor.devices()["none"]


def test_a_machine_without_a_driver_is_told_so_once_and_plainly(found):
    if found["devices"] != {"none": "no NVIDIA driver here"}:
        pytest.skip("needs a machine without an NVIDIA driver")
    cuda = found["back-ends"]["cuda"]
    assert cuda == "no: finds no NVIDIA driver here" or "was left out when clipscan was built" in cuda
    assert "insufficient" not in doctor.page(found)


def test_what_a_trial_has_found_stands_beside_its_back_end(monkeypatch):
    monkeypatch.setattr(engine, "reasons", lambda: {"cuda": None, "cpu": None})
    monkeypatch.setattr(engine, "trials", lambda: {"cuda": "its search hangs. To have it tried again, ..."})
    assert doctor.backends() == {
        "cuda": "ready",
        "cpu": "ready",
        "cuda's trial": "its search hangs. To have it tried again, ...",
    }


def test_a_probe_that_cannot_be_killed_is_left_behind(monkeypatch):
    class Stuck:
        """A process in the driver's hands, as far as the module under test can see one."""

        def communicate(self, timeout):
            raise subprocess.TimeoutExpired("probe", timeout)

        def kill(self):
            pass

    assert "no answer in time" in doctor._heard(Stuck(), time.monotonic())["failed"]


def test_the_command_prints_text_or_json(found, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: found)
    text = CliRunner().invoke(cli.app, ["doctor"])
    assert text.exit_code == 0 and f"clipscan  {clipscan.__version__}" in text.stdout
    assert all(f"\n{section}\n" in "\n" + text.stdout for section in SECTIONS)
    machine = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert machine.exit_code == 0 and json.loads(machine.stdout) == found
