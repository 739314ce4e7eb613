"""A search cut into tasks that devices take one by one, and one table put together of what they find.

Neither the cut, the number of devices nor their timing shows in a table: limits leave out only neighbours
that are beaten, and merging is a minimum.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from clipscan import _core
from clipscan.engine import codebook, keys
from clipscan.engine.arrays import Array, Rows
from clipscan.engine.libraries import numpy_of
from clipscan.engine.limits import Counts
from clipscan.engine.protocol import DeviceEngine, Loaded, Span, Table
from clipscan.engine.tasks import Queue, Task, cut, pairs_in_order


class SplitSearch(Protocol):
    """What devices work on: one search, in tasks."""

    queue: Queue

    def prepare(self, engine: DeviceEngine) -> Any:
        """What the engine holds throughout; the queue is filled afterwards."""

    def compute(self, engine: DeviceEngine, held: Any, task: Task, memory: int, counts: Counts) -> Any:
        """A task on a device."""

    def keep(self, task: Task, found: Any) -> None:
        """What it found, on the host; several at a time."""


class SelfSearch:
    """Rows among themselves. Rows that repeat an earlier one are left out, and listed again at the end."""

    def __init__(self, rows: Rows, k: int, segments: int):
        self.queue = Queue()
        self._rows, self._k, self._segments = rows, k, segments
        self._book = codebook.fit([rows])
        self._planning = threading.Lock()
        self._first_of: Array | None = None
        self._which: Array | None = None  # the first rows, where there are others
        self._whole: Table | None = None  # what the only task found

    def prepare(self, engine: DeviceEngine) -> Loaded:
        loaded = engine.load(self._rows, self._book)
        with self.queue.turn(self._planning):  # one device looks for copies, the others wait for its answer
            if not self.queue.filled:
                self._plan(engine.first_of(loaded))
        return loaded if self._which is None else engine.select(loaded, self._which)

    def _plan(self, first_of: Array | None) -> None:
        n = self._rows.n
        if first_of is not None:
            self._first_of = np.ascontiguousarray(first_of, np.uint32)
            self._which = np.flatnonzero(self._first_of == np.arange(n))
            n = len(self._which)
        self._spans = cut(n, self._segments)
        self._locks = [threading.Lock() for _ in self._spans]
        rows = n if len(self._spans) > 1 else 0  # one task has nothing to be merged with
        self._keys = np.full((rows, self._k), keys.NO_KEY)
        self.queue.fill(pairs_in_order(len(self._spans)))

    def compute(
        self, engine: DeviceEngine, held: Loaded, task: Task, memory: int, counts: Counts
    ) -> tuple[Table, Table | None]:
        a, b = task
        limit_a = self._limit(a)
        limit_b = limit_a if a == b else self._limit(b)
        found = engine.pairs(held, self._spans[a], self._spans[b], self._k, limit_a, limit_b, memory, counts)
        return found if self._stays else (on_host(found[0]), None if found[1] is None else on_host(found[1]))

    @property
    def _stays(self) -> bool:
        """Rows on a device, searched by one task: so is their table."""
        return len(self._spans) == 1 and self._first_of is None and self._rows.on_gpu

    def keep(self, task: Task, found: tuple[Table, Table | None]) -> None:
        if len(self._spans) == 1:
            self._whole = found[0]
            return
        for segment, table in zip(task, found, strict=True):
            if table is not None:
                begin, end = self._spans[segment]
                with self._locks[segment]:
                    keys.merge(self._keys[begin:end], *table)

    def table(self, threads: int) -> Table:
        distance, index = keys.unpack(self._keys) if self._whole is None else self._whole
        if self._first_of is None:
            return distance, index
        return _core.expand_copies(distance, index, self._first_of, threads)

    def _limit(self, segment: int) -> Array:
        """The k-th best distance so far of the segment's rows."""
        begin, end = self._spans[segment]
        if len(self._spans) == 1:
            return np.full(end - begin, np.inf, np.float32)
        with self._locks[segment]:
            return keys.distance_of(self._keys[begin:end, -1])


class CrossSearch:
    """Queries against spans of a reference that every device holds; a block of queries is on one only."""

    def __init__(
        self,
        queries: Rows,
        reference: Rows,
        k: int,
        query_id: Array | None,
        reference_id: Array | None,
        spans: Sequence[Span],
        blocks: int,
    ):
        self.queue = Queue()
        self.queue.fill(cut(queries.n, blocks))
        self._only = blocks == 1
        n = 0 if self._only else queries.n
        self.tables: list[Table] = [(np.empty((n, k), np.float32), np.empty((n, k), np.int64)) for _ in spans]
        self._queries, self._reference, self._k, self._spans = queries, reference, k, spans
        self._query_id, self._reference_id = query_id, reference_id
        self._book = codebook.fit([queries, reference])

    def prepare(self, engine: DeviceEngine) -> Loaded:
        return engine.load(self._reference, self._book)

    def compute(
        self, engine: DeviceEngine, held: Loaded, task: Task, memory: int, counts: Counts
    ) -> list[Table]:
        begin, end = task
        block = engine.load(self._queries.slice(begin, end), self._book)
        own = None if self._query_id is None else self._query_id[begin:end]
        ids = (own, self._reference_id)
        found = engine.between(block, held, (0, end - begin), self._k, *ids, self._spans, memory, counts)
        return found if self._only and self._queries.on_gpu else [on_host(table) for table in found]

    def keep(self, task: Task, found: list[Table]) -> None:
        begin, end = task
        if self._only:
            self.tables = found
            return
        for table, part in zip(self.tables, found, strict=True):
            table[0][begin:end], table[1][begin:end] = part


def on_host(table: Table) -> Table:
    return numpy_of(table[0]), numpy_of(table[1])
