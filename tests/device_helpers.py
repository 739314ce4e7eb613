"""CPU engines that stand for devices, and clouds of rows for them."""

import contextlib
import threading
from types import SimpleNamespace

import numpy as np

from clipscan.engine import Counts, as_rows, cpu
from clipscan.engine.devices import Devices

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
