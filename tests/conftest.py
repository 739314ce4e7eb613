"""What several test files stand on."""

import pytest

from clipscan.engine import cuda


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
