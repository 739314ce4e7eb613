"""A kernel that never ends, and a call of the driver that never returns (simulated): Ctrl-C is heard."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_sim import build

TESTS = Path(__file__).parent

# A search on the simulated device, and somebody who presses Ctrl-C. Prints how each thing ended.
SEARCH = """
import _thread, ctypes, os, signal, sys, threading, time
import numpy as np

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started us
library, setting, number = sys.argv[1:4]
presses, devices = map(int, sys.argv[4:])
import importlib.util
spec = importlib.util.spec_from_file_location("_cuda_sim", library)
simulated = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulated)

from clipscan.engine import cuda
cuda._module = lambda: simulated
from clipscan.engine.arrays import Rows
from clipscan.engine.devices import LANES, Devices
from clipscan.engine.limits import Counts
from clipscan.errors import DeviceLost

x = np.random.default_rng(0).standard_normal((300, 40)).astype(np.float32)
crew = Devices([cuda.CudaEngine(number) for number in range(devices)], segment_rows=1)
os.environ["CLIPSCAN_SIM_" + setting] = number

def search():
    return crew.within(Rows([x], "x"), 5, 1, None, Counts())

def wait_for(there):
    until = time.monotonic() + 60
    while not there() and time.monotonic() < until:
        time.sleep(0.05)

def lanes():
    return sum(thread.name == "clipscan-device" for thread in threading.enumerate())

endless = ctypes.CDLL(library).clipscan_sim_endless

def press():
    wait_for(endless)
    time.sleep(1.5)
    _thread.interrupt_main()
    if presses > 1:
        time.sleep(1.5)
        wait_for(lambda: lanes() <= LANES)  # whoever can end has ended
        _thread.interrupt_main()

threading.Thread(target=press, daemon=True).start()
try:
    search()
    print("found")
    time.sleep(60)  # not to be interrupted later
except KeyboardInterrupt:
    print("interrupted")
if presses > 1:
    del os.environ["CLIPSCAN_SIM_" + setting]
    try:
        search()
        print("found")
    except DeviceLost as reason:
        print("lost:", reason)
"""


@pytest.fixture(scope="module")
def library():
    return build().__file__


def run(library, *arguments):
    command = [sys.executable, "-P", "-c", SEARCH, library, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 8])
def test_ctrl_c_ends_a_search_whose_kernel_hangs(library, number):
    assert run(library, "HANG", number, 1, 1) == "interrupted\n"


@pytest.mark.parametrize("number", [1, 5, 9])
def test_ctrl_c_ends_it_on_one_of_several_devices_too(library, number):
    assert run(library, "HANG", number, 1, 2) == "interrupted\n"


@pytest.mark.parametrize("number", ["1+", "12+", "30+"])
def test_a_second_ctrl_c_leaves_a_call_that_does_not_return(library, number):
    said = run(library, "BLOCK", number, 2, 1)
    assert said.startswith("interrupted\nlost: ")
    assert "device 0 is left to a call that did not end when it was interrupted; start Python anew" in said


def test_a_second_ctrl_c_leaves_a_lane_and_its_device_and_the_others_go_on(library):
    said = run(library, "BLOCK", "40", 2, 2)
    assert re.fullmatch("interrupted\nfound\n", said), said
