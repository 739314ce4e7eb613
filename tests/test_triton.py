"""The Triton back-end on a machine without a GPU: its tests under Triton's interpreter.

That is chosen by an environment variable, once and for a whole process, so they run in one of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from triton_helpers import UNAVAILABLE


@pytest.mark.skipif(UNAVAILABLE is None, reason="these tests run in this process")
def test_all_of_this_file_under_the_interpreter():
    environment = dict(os.environ, TRITON_INTERPRET="1")
    files = sorted(Path(__file__).parent.glob("test_triton_*.py"))
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "not compiles_for", *files]
    child = subprocess.run(
        [sys.executable, "-P", *arguments], capture_output=True, text=True, env=environment, timeout=1200
    )
    assert child.returncode == 0, child.stdout[-6000:] + child.stderr[-2000:]
