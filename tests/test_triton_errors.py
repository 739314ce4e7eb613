"""What the Triton back-end says of what is missing, fails or hangs."""

import signal

import pytest
from triton_helpers import engine, kernels, load, poison, rows, runs  # noqa: F401

from clipscan import BackendError
from clipscan.engine import as_rows, codebook, triton
from clipscan.errors import DeviceLost

torch = pytest.importorskip("torch")


class NeverDone:
    """An event behind a kernel that hangs; `looks` at it are counted, and the third has `then` happen."""

    then, looks = staticmethod(lambda: None), 0

    def record(self):
        pass

    def query(self):
        NeverDone.looks += 1
        if NeverDone.looks == 3:
            NeverDone.then()
        return False


@pytest.mark.parametrize("heard", ["here", "by another thread"])
def test_a_wait_for_a_kernel_that_hangs_ends_when_it_is_asked_to(monkeypatch, heard):
    waiting = triton._kernels("waiting")
    monkeypatch.setattr(torch.cuda, "Event", NeverDone)
    monkeypatch.setattr(NeverDone, "looks", 0)
    if heard == "here":
        monkeypatch.setattr(NeverDone, "then", staticmethod(lambda: signal.raise_signal(signal.SIGINT)))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
    else:
        monkeypatch.setattr(NeverDone, "then", staticmethod(lambda: waiting.asked.add("cuda:0")))
    try:
        with pytest.raises(KeyboardInterrupt):
            waiting.rest(torch.device("cuda:0"))
    finally:
        waiting.asked.clear()
        if heard == "here":
            signal.signal(signal.SIGINT, before)
    assert 3 <= NeverDone.looks < 1000


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton.importlib.util, "find_spec", lambda name: None)
    assert "pip install torch triton" in triton.available()
    monkeypatch.undo()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton, "GPU_FILES", ())
    assert "TRITON_INTERPRET=1" in triton.available()
    with pytest.raises(BackendError, match="back-end 'triton' needs a GPU"):
        triton.engines()


@runs
def test_an_unknown_device_is_refused(engine):
    with pytest.raises(BackendError, match=f"has no device cuda:77; it has {engine.name}"):
        triton.engines(["cuda:77"])


@runs
def test_errors_of_a_device_are_told_apart(engine, monkeypatch):
    loaded = kernels("loaded")

    def failing(error):
        def load(*arguments):
            raise error

        monkeypatch.setattr(loaded, "load", load)
        return as_rows(rows(3, 2))

    book = codebook.fit([as_rows(rows(3, 2))])
    with pytest.raises(DeviceLost, match=f"{engine.name}: Triton Error"):
        engine.load(failing(RuntimeError("Triton Error [CUDA]: an illegal memory access")), book)
    with pytest.raises(BackendError, match="give a smaller max_memory"):
        engine.load(failing(torch.OutOfMemoryError("tried to allocate")), book)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        engine.load(failing(RuntimeError("a mistake of ours")), book)
