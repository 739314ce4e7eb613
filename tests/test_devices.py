"""Several devices give the bits of one, even when some of them fail. CPU engines stand for devices."""

import _thread
import contextlib
import logging
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPES

from clipscan import _core
from clipscan.engine import Counts, Neighbors, as_rows, cpu, keys
from clipscan.engine.devices import SEGMENTS, Devices
from clipscan.engine.tasks import cut, pairs_in_order, simulate
from clipscan.errors import DeviceLost, InputError

MEMORY = 1 << 30
ROW_MEMORY = 100  # bytes that a row at work on a CpuEngine needs


class CpuEngine:
    """A device made of the CPU back-end. `before(name, call)` runs before each call, and may fail or wait."""

    default_memory = MEMORY

    def __init__(self, name="cpu:0", before=lambda name, call: None):
        self.name, self.calls, self.asked, self.budgets = name, [], [], set()
        self._before, self._one_at_a_time = before, threading.Lock()

    def load(self, rows, book):
        with self._call("load"):
            return SimpleNamespace(rows=rows, n=rows.n, d=rows.d)

    def first_of(self, loaded):
        with self._call("first_of"):
            return first_rows(loaded.rows.block(0, loaded.n))

    def select(self, loaded, positions):
        with self._call("select"):
            taken = loaded.rows.take(positions)
            return SimpleNamespace(rows=as_rows(taken), n=len(taken), d=loaded.d)

    def least_memory(self, rows, k):
        return ROW_MEMORY * rows

    def pairs(self, loaded, a, b, k, limit_a, limit_b, memory, counts):
        with self._call("pairs"):
            self.budgets.add(memory)
            assert self.least_memory(b[1] - a[0] if a == b else a[1] - a[0] + b[1] - b[0], k) <= memory
            left, right = (loaded.rows.slice(*span) for span in (a, b))
            if a == b:
                distance, index = cpu.within(left, k, 1, MEMORY, counts)
                tables = dropped(distance, index, limit_a, a[0]), None
            else:
                (to_right,) = cpu.between(left, right, k, None, None, [(0, right.n)], 1, MEMORY, counts)
                (to_left,) = cpu.between(right, left, k, None, None, [(0, left.n)], 1, MEMORY, counts)
                tables = dropped(*to_right, limit_a, b[0]), dropped(*to_left, limit_b, a[0])
            self.asked.append((a, b, limit_a, limit_b, tables))
            return tables

    def between(self, queries, reference, rows, k, query_id, reference_id, spans, memory, counts):
        with self._call("between"):
            self.budgets.add(memory)
            some = queries.rows.slice(*rows)
            return cpu.between(some, reference.rows, k, query_id, reference_id, spans, 1, MEMORY, counts)

    def density(self, distance, index, reference, threads):
        with self._call("density"):
            return cpu.density(distance, index, reference, threads)

    def mean_cosine(self, a, b, index, threads):
        with self._call("mean_cosine"):
            return cpu.mean_cosine(a, b, index, threads)

    def interrupt(self):
        self.interrupted = True  # its calls end soon by themselves

    @contextlib.contextmanager
    def _call(self, call):
        assert self._one_at_a_time.acquire(blocking=False), "two calls at a time on one device"
        try:
            self.calls.append(call)
            self._before(self.name, call)
            yield
        finally:
            self._one_at_a_time.release()


def first_rows(x):
    """The first row equal to each, None where all differ."""
    _, first, group = np.unique(x + 0.0, axis=0, return_index=True, return_inverse=True)
    return None if len(first) == len(x) else first[group.ravel()].astype(np.uint32)


def dropped(distance, index, limit, offset):
    """Without the neighbours beyond the limits; indices counted from the first row of all."""
    there = (index >= 0) & (distance <= limit[:, None])
    return np.where(there, distance, np.float32(np.inf)), np.where(there, index + offset, -1)


def rows(n, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def crew(count, segment_rows=2, before=lambda name, call: None):
    """So few rows a segment that every device takes part."""
    engines = [CpuEngine(f"cpu:{i}", before) for i in range(count)]
    return Devices(engines, segment_rows=segment_rows), engines


def within(devices, x, k, memory=MEMORY):
    return devices.within(as_rows(x), k, 2, memory, Counts())


def assert_equal(table, expected):
    for ours, theirs in zip(table, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert (ours == theirs).all()


def one(x, k):
    return cpu.within(as_rows(x), k, 1, MEMORY, Counts())


TIES = np.round(rows(90, 3, 1))
COPIES = np.repeat(rows(40, 6, 2), np.random.default_rng(0).integers(1, 6, 40), axis=0)
AWKWARD = {
    "plain": (rows(100), 5),
    "ties": (TIES, 7),
    "copies": (np.random.default_rng(1).permutation(COPIES), 6),
    "all equal": (np.ones((60, 4), np.float32), 5),
    "two points": (np.tile(np.eye(2, 4, dtype=np.float32), (30, 1)), 9),
    "n = k + 1": (rows(17), 16),
    "n = k + 1, copies": (np.tile(rows(6), (3, 1)), 17),
    "fewer rows than segments": (rows(9), 3),
    "two rows": (rows(2), 1),
    "equally far": (np.eye(50, dtype=np.float32), 6),
    "minus zero": (np.where(np.arange(120).reshape(30, 4) % 3, np.float32(-0.0), np.float32(0)), 4),
}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", AWKWARD)
def test_any_number_of_devices_gives_the_table_of_the_cpu(name, count):
    x, k = AWKWARD[name]
    devices, _ = crew(count, segment_rows=1)
    assert_equal(within(devices, x, k), one(x, k))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_cloud_on_two_devices(shape):
    x = shape(np.random.default_rng(3), 120, 16).astype(np.float32)
    assert_equal(within(crew(2)[0], x, 6), one(x, 6))


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(2, 40),
    k=st.integers(1, 8),
    seed=st.integers(0, 999),
    grid=st.sampled_from([0, 1, 2]),
    count=st.integers(1, 3),
    segment_rows=st.integers(1, 6),
    at_work=st.integers(4, 60),
)
def test_any_rows_segments_and_devices(n, k, seed, grid, count, segment_rows, at_work):
    x, k = rows(n, 3, seed), min(k, n - 1)
    x = np.round(x * grid) / grid if grid else x
    assert_equal(within(crew(count, segment_rows)[0], x, k, ROW_MEMORY * at_work), one(x, k))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 5, 200])
def test_queries_against_spans_give_the_tables_of_the_cpu(n, count):
    x, y = rows(n), np.round(rows(150, seed=1), 1)
    ids, owners = np.arange(n), np.arange(150) % 20
    spans = [(0, 60), (0, 150), (30, 90)]
    for memory in (MEMORY, ROW_MEMORY * 7):
        ours, theirs = (
            back.between(as_rows(x), as_rows(y), 6, ids, owners, spans, 2, memory, Counts())
            for back in (crew(count)[0], cpu)
        )
        for table, expected in zip(ours, theirs, strict=True):
            assert_equal(table, expected)


def test_queries_without_identities():
    x, y = as_rows(rows(70)), as_rows(rows(90, seed=1))
    ours, theirs = (
        back.between(x, y, 6, None, None, [(0, 90)], 2, MEMORY, Counts()) for back in (crew(2)[0], cpu)
    )
    assert_equal(ours[0], theirs[0])


def test_what_is_counted_is_counted_once():
    x = rows(80)
    total = Counts()
    devices, engines = crew(2)
    devices.within(as_rows(x), 4, 2, MEMORY, total)
    alone = Counts()
    for engine in engines:
        for a, b, limit_a, limit_b, _ in list(engine.asked):
            CpuEngine().pairs(SimpleNamespace(rows=as_rows(x)), a, b, 4, limit_a, limit_b, MEMORY, alone)
    assert total == alone


# ---- how it is cut


def test_one_device_with_enough_memory_does_it_in_one_task():
    devices, engines = crew(1)
    within(devices, rows(100), 4)
    assert [step.task for step in devices.schedule] == [(0, 0)]
    assert engines[0].calls == ["load", "first_of", "pairs"]


def test_a_small_search_takes_one_of_several_devices():
    devices, engines = crew(3, segment_rows=30)
    within(devices, rows(200), 4)
    assert len(devices.schedule) == 1
    assert not engines[1].calls and not engines[2].calls


def test_as_many_devices_take_part_as_have_segments_enough():
    devices, engines = crew(3, segment_rows=30, before=lambda name, call: time.sleep(0.01))
    within(devices, rows(300), 4)  # 2 x 4 x 30 = 240, 3 x 4 x 30 = 360
    assert len(devices.schedule) == 8 * 9 / 2
    assert {step.device for step in devices.schedule} == {"cpu:0", "cpu:1"}
    assert not engines[2].calls


@pytest.mark.parametrize("count", [1, 2])
def test_little_memory_means_more_segments_and_the_same_table(count):
    x = rows(130)
    devices, engines = crew(count)
    assert_equal(within(devices, x, 5, memory=ROW_MEMORY * 20), one(x, 5))
    assert len(devices.schedule) == 13 * 14 / 2  # two segments of ten rows
    assert sum(call == "first_of" for engine in engines for call in engine.calls) == 1


def test_without_a_budget_each_device_works_in_its_own():
    devices, engines = crew(1)
    engines[0].default_memory = ROW_MEMORY * 20
    assert_equal(within(devices, rows(60), 5, memory=None), one(rows(60), 5))
    assert len(devices.schedule) == 6 * 7 / 2
    x = as_rows(rows(60))
    devices.between(x, x, 5, None, None, [(0, 60)], 1, None, Counts())
    assert len(devices.schedule) == 3
    assert engines[0].budgets == {ROW_MEMORY * 20}


def test_too_little_memory_is_refused_in_words_before_anything_is_loaded():
    devices, engines = crew(2)
    x = np.zeros((20_000, 2), np.float32)
    with pytest.raises(InputError, match="max_memory=500: .* at least 8000 bytes"):
        within(devices, x, 3, memory=500)
    with pytest.raises(InputError, match="max_memory=500: .* at least 4000 bytes"):
        devices.between(as_rows(x), as_rows(x), 3, None, None, [(0, 20_000)], 1, 500, Counts())
    assert not engines[0].calls


@pytest.mark.parametrize("segments", [1, 2, 3, 8, 13, 32])
def test_every_pair_of_segments_is_queued_once_in_rounds_that_share_no_segment(segments):
    order = pairs_in_order(segments)
    assert order[:segments] == [(s, s) for s in range(segments)]
    assert sorted(order) == [(a, b) for a in range(segments) for b in range(a, segments)]
    size = segments // 2
    for begin in range(segments, len(order), max(1, size)):
        a_round = [segment for pair in order[begin : begin + size] for segment in pair]
        assert len(set(a_round)) == 2 * size


@given(n=st.integers(0, 50), parts=st.integers(1, 60))
def test_parts_are_nearly_equal_and_hold_every_row(n, parts):
    spans = cut(n, parts)
    assert [row for begin, end in spans for row in range(begin, end)] == list(range(n))
    assert {end - begin for begin, end in spans} <= {n // len(spans), -(-n // len(spans))} if n else not spans


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_devices_are_kept_busy_by_the_usual_number_of_segments(devices):
    rng = np.random.default_rng(devices)
    pairs = pairs_in_order(SEGMENTS * devices)
    for _ in range(50):  # a fifth more or less, from segment to segment and from task to task
        size = rng.lognormal(0, 0.15, SEGMENTS * devices)
        seconds = [
            (0.5 if a == b else 1.0) * (size[a] + size[b]) / 2 * rng.lognormal(0, 0.15) for a, b in pairs
        ]
        assert simulate(seconds, devices) >= 0.92


def test_the_simulation_is_one_for_even_work_and_a_share_for_one_task():
    assert simulate([1.0] * 8, 4) == 1
    assert simulate([3.0], 4) == 0.25
    assert simulate([1.0, 1.0, 2.0], 2) == pytest.approx(4 / 6)


# ---- limits and merging


def test_limits_are_the_kth_best_so_far():
    x, k = np.concatenate([TIES, TIES[:20]]), 4
    devices, engines = crew(1)
    within(devices, x, k, memory=ROW_MEMORY * 20)
    n = len(np.unique(x, axis=0))
    best = Neighbors(np.full((n, k), np.inf, np.float32), np.full((n, k), -1))
    assert len(engines[0].asked) > 10
    for a, b, limit_a, limit_b, tables in engines[0].asked:
        assert (limit_a == best.distance[slice(*a), -1]).all()
        assert (limit_b == best.distance[slice(*b), -1]).all()
        for (begin, end), table in zip((a, b), tables, strict=True):
            if table is not None:
                some = Neighbors(best.distance[begin:end], best.index[begin:end])
                merged = Neighbors.merge(some, Neighbors(*table))
                best.distance[begin:end], best.index[begin:end] = merged.distance, merged.index
    assert np.isfinite(engines[0].asked[-1][2]).all()


@settings(deadline=None, max_examples=40)
@given(n=st.integers(0, 30), k=st.integers(1, 9), seed=st.integers(0, 999), chunk=st.sampled_from([1, 50]))
def test_merged_keys_are_merged_tables(n, k, seed, chunk):
    rng = np.random.default_rng(seed)

    def table(offset):
        distance = np.sort(np.round(rng.random((n, k)), 1).astype(np.float32), axis=1)
        index = np.sort(rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1), axis=1) * 2 + offset
        nobody = np.arange(k) >= rng.integers(0, k + 1, (n, 1))
        return Neighbors(np.where(nobody, np.float32(np.inf), distance), np.where(nobody, -1, index))

    both = table(0), table(1)
    merged = np.full((n, k), keys.NO_KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "CHUNK", chunk)
        for part in both:
            keys.merge(merged, part.distance, part.index)
        expected = Neighbors.merge(*both)
        assert (keys.distance_of(merged) == expected.distance).all()
        assert_equal(keys.unpack(merged), (expected.distance, expected.index))


# ---- when things go wrong


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


# ---- copies


def expanded(distance, index, first_of):
    """The definition of expand_copies: all copies of all neighbours, and of the row itself, in order."""
    n, k = len(first_of), distance.shape[1]
    firsts = np.unique(first_of)
    out_distance, out_index = np.full((n, k), np.inf, np.float32), np.full((n, k), -1)
    for i in range(n):
        p = np.searchsorted(firsts, first_of[i])
        near = [(np.float32(0), first_of[i])] + [
            (r, firsts[q]) for r, q in zip(distance[p], index[p], strict=True) if q >= 0
        ]
        all_of = sorted((r, j) for r, first in near for j in np.flatnonzero(first_of == first) if j != i)[:k]
        for rank, (r, j) in enumerate(all_of):
            out_distance[i, rank], out_index[i, rank] = r, j
    return out_distance, out_index


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40), points=st.integers(1, 40), k=st.integers(1, 9), seed=st.integers(0, 999))
def test_copies_are_listed_as_defined(n, points, k, seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, (points, 2)).astype(np.float32)
    x = points[rng.integers(0, len(points), n)]
    first_of = first_rows(x)
    first_of = np.arange(n, dtype=np.uint32) if first_of is None else first_of
    different = as_rows(x[np.unique(first_of)])
    table = cpu.within(different, k, 1, MEMORY, Counts())
    for threads in (1, 3):
        assert_equal(_core.expand_copies(*table, first_of, threads), expanded(*table, first_of))
    assert_equal(_core.expand_copies(*table, first_of), one(x, k))
