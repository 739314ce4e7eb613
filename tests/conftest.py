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


@pytest.fixture(scope="module")
def browser():
    """A Chromium; skips where there is none."""
    from browser import chromium

    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Address of a page of 220 suspects with pictures, a group of near-copies, and four on the drop list."""
    from browser import SUSPECTS
    from test_report import InMemory, a_run, some_samples

    from clipscan.report.page import write_page

    samples = some_samples(300, caption="the first")
    run = a_run(tmp_path_factory.mktemp("run"), samples, suspects=SUSPECTS)
    return write_page(run, InMemory(samples)).as_uri()
