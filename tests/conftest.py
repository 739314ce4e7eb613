"""What several test files stand on."""

import os

import pytest

from clipscan.engine import cuda


def pytest_addoption(parser):
    parser.addoption(
        "--disturb",
        type=int,
        metavar="SEED",
        help="draw anew, and move every weight by a thousandth: does a test stand on luck? (disturbance.py)",
    )


def pytest_configure(config):
    if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the cores
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
    if (seed := config.getoption("--disturb")) is not None:
        os.environ["CLIPSCAN_DISTURB"] = str(seed)  # for the processes that tests start, too
        import disturbance  # noqa: F401


@pytest.fixture(scope="module")
def device():
    """The module under test: that of a real device if there is one, else that of the simulated one."""
    if cuda.available() is None:
        yield cuda._module()
        return
    from cuda_sim import build

    simulated, real = build(), cuda._module
    cuda._module = lambda: simulated
    yield simulated
    cuda._module = real
