"""Devices that fail, one or all, and interrupts: the others go on, or the error names each."""

import _thread
import logging
import signal
import threading
import time

import pytest
from device_helpers import AWKWARD, MEMORY, assert_equal, crew, one, rows, within

from clipscan.engine import Counts, as_rows, cpu
from clipscan.errors import DeviceLost, InputError


def losing(*names, call="pairs", after=0):
    """The named devices fail in a call once they did it `after` times."""
    done = dict.fromkeys(names, 0)

    def before(name, called):
        if name in done and called == call:
            if done[name] >= after:
                raise DeviceLost(f"{name} fell off the bus")
            done[name] += 1

    return before


@pytest.mark.parametrize("call", ["load", "first_of", "select", "pairs"])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_lost_device_leaves_its_work_to_the_others(call, after, caplog):
    x = AWKWARD["copies"][0]
    devices, engines = crew(3, before=losing("cpu:0", "cpu:2", call=call, after=after))
    for _ in range(3):
        assert_equal(within(devices, x, 5), one(x, 5))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(set(lines)) <= 2
    if after == 0:
        assert any("cpu:0" in line and "fell off the bus" in line for line in lines) or call == "first_of"
    for step in devices.schedule:
        assert not any(step.device in line for line in lines)
    assert engines[1].calls


def test_a_task_whose_device_is_lost_last_is_not_forgotten():
    # The other device has nothing left to take when the first fails in its very last task.
    x = rows(64)

    def before(name, call):
        if name == "cpu:0" and call == "pairs":
            time.sleep(0.5)
            raise DeviceLost("late")

    devices, engines = crew(2, before=before)
    assert_equal(within(devices, x, 5), one(x, 5))
    assert {step.device for step in devices.schedule} == {"cpu:1"}
    assert engines[1].calls.count("load") == 1, "it waited for what the other might leave"


def test_a_device_that_was_not_needed_steps_in():
    x = rows(100)
    devices, _ = crew(2, segment_rows=1000, before=losing("cpu:0"))
    assert_equal(within(devices, x, 5), one(x, 5))
    assert [step.device for step in devices.schedule] == ["cpu:1"]


@pytest.mark.parametrize("after", [0, 2])
def test_when_all_devices_are_lost_the_error_names_each(after, caplog):
    devices, _ = crew(2, before=losing("cpu:0", "cpu:1", after=after))
    with pytest.raises(DeviceLost, match="cpu:0: cpu:0 fell .*; cpu:1: cpu:1 fell|cpu:1: .*; cpu:0: "):
        within(devices, rows(100), 5)
    assert len(caplog.records) == 2 and caplog.records[0].levelno == logging.WARNING
    with pytest.raises(DeviceLost, match="no device is left"):
        within(devices, rows(100), 5)
    assert len(caplog.records) == 2


def test_a_device_lost_between_two_sets(caplog):
    x, y = as_rows(rows(100)), as_rows(rows(80, seed=1))
    devices, _ = crew(3, before=losing("cpu:1", call="between", after=1))
    ours, theirs = (
        back.between(x, y, 4, None, None, [(0, 80)], 1, MEMORY, Counts()) for back in (devices, cpu)
    )
    assert_equal(ours[0], theirs[0])


def test_scores_are_computed_by_the_first_device_left():
    table = one(rows(50), 5)
    devices, engines = crew(2, before=losing("cpu:0", call="density"))
    ours, theirs = devices.density(*table), cpu.density(*table)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    x = rows(50)
    assert (devices.mean_cosine(x, x, table[1]) == cpu.mean_cosine(x, x, table[1])).all()
    assert engines[1].calls == ["density", "mean_cosine"]
    devices, _ = crew(1, before=losing("cpu:0", call="density"))
    with pytest.raises(DeviceLost, match="cpu:0 fell off"):
        devices.density(*table)


def test_a_slow_device_takes_fewer_tasks():
    x = rows(160)
    devices, _ = crew(2, before=lambda name, call: time.sleep(0.1 if name == "cpu:0" else 0.01))
    assert_equal(within(devices, x, 5), one(x, 5))
    share = [sum(step.device == name for step in devices.schedule) for name in ("cpu:0", "cpu:1")]
    assert 0 < share[0] < share[1] and sum(share) == 36


@pytest.mark.parametrize("error", [InputError, ValueError, MemoryError])
@pytest.mark.parametrize("call", ["load", "first_of", "pairs"])
@pytest.mark.parametrize("count", [1, 3])
def test_any_other_error_stops_everything_and_is_raised(error, call, count):
    threads = threading.active_count()

    def before(name, called):
        if name == f"cpu:{count - 1}" and called == call:
            raise error("planted")
        time.sleep(0.02)

    devices, engines = crew(count, before=before)
    if call == "first_of":  # asked of one device only: of all of them, here
        for engine in engines[:-1]:
            engine._before = lambda name, called: time.sleep(0.2)
    with pytest.raises(error, match="planted"):
        within(devices, rows(200), 5)
    assert threading.active_count() == threads
    assert len(devices.schedule) < 20  # of 78


@pytest.fixture
def interrupts():
    """Ctrl-C raises here, whatever started the tests: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_the_search_between_two_tasks():
    threads, asked = threading.active_count(), []

    def before(name, call):
        time.sleep(0.05)
        if call == "pairs" and not asked:
            asked.append(name)
            _thread.interrupt_main()  # as Ctrl-C does

    devices, _ = crew(2, before=before)
    with pytest.raises(KeyboardInterrupt):
        within(devices, rows(100), 5)
    assert len(devices.schedule) < 10  # of 36
    assert threading.active_count() == threads
