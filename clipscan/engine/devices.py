"""A back-end over one or several devices: what the engine of each computes, put together on the host.

A self-search cuts its rows into segments. A task is a pair of segments and serves the rows of both; tasks
wait in one queue (tasks.py), each device takes the next when it is free, and what it finds is merged into
one table on the host (split_search.py, keys.py). A search between two sets cuts its queries into blocks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any, NamedTuple, TypeVar

from clipscan.engine.arrays import Array, Rows
from clipscan.engine.lanes import open_lane, watch
from clipscan.engine.limits import FEW_ROWS, Counts, Limits
from clipscan.engine.protocol import DeviceEngine, Span
from clipscan.engine.split_search import CrossSearch, SelfSearch, SplitSearch
from clipscan.engine.tasks import LOOK_UP, Stopped, Task
from clipscan.errors import DeviceLost, InputError

# Segments for each device of a self-search. Any even number gives all devices equal shares (pairs_in_order).
# With 2, a task is 1/(2 devices) of a device's share, too coarse where times differ: two devices, one of them
# slower by a fifth, lose 10 % (simulated). With 4 it is 1/(8 devices), and they lose 2 %. More would cost
# more than they level out: every row is merged once a segment, and the fewer rows a first limit knows, the
# more pairs pass it, about k (1 + 1/2 + ... + 1/segments) for each row.
SEGMENTS = 4
# Rows of such a segment that make another device worth its copy of the codes: a pair of them, at width 512,
# keeps a large GPU busy for about 17 ms, and the host merges what it found in 11.
SEGMENT_ROWS = 1 << 17
BLOCK_BYTES = 512 << 20  # queries on a device at once, as float32: large enough to keep it busy
MOST_PARTS = 512  # that a small memory may ask for: beyond it there would be more merging than search
LANES = 2  # threads a device: one runs it, the other merges what it found last

log = logging.getLogger("clipscan")
T = TypeVar("T")


class Step(NamedTuple):
    """A task done, and how long its device took."""

    device: str
    task: Task
    seconds: float


class Devices:
    """The contract of kernels/README.md over engines; a small search takes the first of them only.

    One search at a time. A lost device is left out of this search and all later ones, with a line in the
    log; DeviceLost is raised when none is left. `schedule` is that of the last search, as tasks ended.
    """

    def __init__(
        self, engines: Sequence[DeviceEngine], limits: Limits = Limits(), segment_rows: int = SEGMENT_ROWS
    ):
        self.LIMITS = limits
        self.schedule: list[Step] = []
        self.engines = list(engines)
        self._segment_rows = segment_rows
        self._lost: dict[str, str] = {}  # name -> reason; the error itself would keep its search alive
        self._busy, self._tally = threading.Lock(), threading.Lock()

    def within(
        self, rows: Rows, k: int, threads: int, memory: int | None, counts: Counts
    ) -> tuple[Array, Array]:
        """Rows among themselves, none its own neighbour. `memory` is for each device, None its default.

        The table of rows on a device stays there (objects with __dlpack__) where it came from one task."""
        with self._busy:
            crew = self._crew(rows.n)
            segments = self._parts(rows.n, k, memory, 1 if crew == 1 else SEGMENTS * crew, at_once=2)
            search = SelfSearch(rows, k, segments)
            self._run(search, crew, memory, counts)
            return search.table(threads)

    def between(
        self,
        queries: Rows,
        reference: Rows,
        k: int,
        query_id: Array | None,
        reference_id: Array | None,
        spans: Sequence[Span],
        threads: int,
        memory: int | None,
        counts: Counts,
    ) -> list[tuple[Array, Array]]:
        """A table for each span of the reference; indices count from its first row."""
        with self._busy:
            crew = self._crew(queries.n)
            fewest = max(1 if crew == 1 else SEGMENTS * crew, -(-queries.n * 4 * queries.d // BLOCK_BYTES))
            blocks = self._parts(queries.n, k, memory, fewest, at_once=1)
            search = CrossSearch(queries, reference, k, query_id, reference_id, spans, blocks)
            self._run(search, crew, memory, counts)
            return search.tables

    def density(
        self, distance: Array, index: Array, reference: Mapping[str, Array] | None = None, threads: int = 1
    ) -> dict[str, Array]:
        return self._first_alive(lambda engine: engine.density(distance, index, reference, threads))

    def mean_cosine(self, a: Array, b: Array, index: Array, threads: int = 1) -> Array:
        return self._first_alive(lambda engine: engine.mean_cosine(a, b, index, threads))

    # ---- who takes part, and in how many parts

    def _alive(self) -> list[DeviceEngine]:
        return [engine for engine in self.engines if engine.name not in self._lost]

    def _crew(self, n: int) -> int:
        """How many devices are worth their start: each should have all its segments of a good size."""
        return max(1, min(len(self._alive()), n // (SEGMENTS * self._segment_rows)))

    def _parts(self, n: int, k: int, memory: int | None, fewest: int, at_once: int) -> int:
        """The fewest equal parts of n rows of which `at_once` fit the memory of whoever may take them."""
        rows = n
        for parts in range(fewest, max(fewest, min(n, MOST_PARTS)) + 1):
            rows = n if parts == 1 else at_once * -(-n // parts)
            if all(engine.least_memory(rows, k) <= _budget(engine, memory) for engine in self._alive()):
                return parts
        if n <= FEW_ROWS:
            return fewest
        worst = max(self._alive(), key=lambda engine: engine.least_memory(rows, k) - _budget(engine, memory))
        raise InputError(
            f"max_memory={_budget(worst, memory)}: a search of {n} rows for k={k} on {worst.name} works in "
            f"at least {worst.least_memory(rows, k)} bytes beside its codes; give it that much"
        )

    # ---- who does what

    def _run(self, search: SplitSearch, size: int, memory: int | None, counts: Counts) -> None:
        """Until the queue is finished: devices that were not needed step in when all at work are lost."""
        self.schedule = []
        while not search.queue.finished:
            seats = [_Seat(engine) for engine in self._alive()[:size]]
            if not seats:
                raise self._all_lost()
            if len(seats) == 1:  # in the calling thread, the one that Ctrl-C reaches
                self._drive(search, seats[0], memory, counts)
                continue
            lanes = {open_lane(self._drive, search, s, memory, counts): s for s in LANES * seats}
            try:
                watch(lanes)
            except (
                BaseException
            ) as reason:  # a lane's error, which stopped the others already, or Ctrl-C here
                search.queue.stop()
                self._wind_up(lanes, interrupted=isinstance(reason, KeyboardInterrupt))
                raise

    def _wind_up(self, lanes: Mapping[Future[None], _Seat], interrupted: bool) -> None:
        """Until all lanes have ended. A second Ctrl-C leaves behind those that do not, and their devices."""
        try:
            while left := [lane for lane in lanes if not lane.done()]:
                if interrupted:  # again and again: a lane may have been between two calls
                    for lane in left:
                        lanes[lane].engine.interrupt()
                wait(left, LOOK_UP)
        except KeyboardInterrupt:
            for lane in left:
                reason = DeviceLost("it was left to a call that did not end when it was interrupted")
                self._lose(lanes[lane].engine, reason)
            raise

    def _drive(self, search: SplitSearch, seat: _Seat, memory: int | None, counts: Counts) -> None:
        """A lane: until no task is left, or the device."""
        try:
            while self._step(search, seat, memory, counts):
                pass
        except BaseException:
            search.queue.stop()
            raise

    def _step(self, search: SplitSearch, seat: _Seat, memory: int | None, counts: Counts) -> bool:
        """One task: computed while the seat is held, merged while the next is computed. False at the end."""
        task = None
        with seat.lock:
            if seat.engine.name in self._lost:
                return False
            try:
                if seat.held is None:
                    seat.held = search.prepare(seat.engine)
                task = search.queue.take()
                if task is None:
                    return False
                found = self._compute(search, seat, task, _budget(seat.engine, memory), counts)
            except DeviceLost as reason:
                self._lose(seat.engine, reason)
                if task is not None:
                    search.queue.put_back(task)
                return False
            except Stopped:
                return False
        search.keep(task, found)
        search.queue.done()
        return True

    def _compute(self, search: SplitSearch, seat: _Seat, task: Task, memory: int, counts: Counts) -> Any:
        own = Counts()
        begin = time.perf_counter()
        found = search.compute(seat.engine, seat.held, task, memory, own)
        step = Step(seat.engine.name, task, time.perf_counter() - begin)
        with self._tally:
            self.schedule.append(step)
            counts.passed += own.passed
            counts.measured += own.measured
        return found

    def _first_alive(self, call: Callable[[DeviceEngine], T]) -> T:
        with self._busy:
            for engine in self._alive():
                try:
                    return call(engine)
                except DeviceLost as reason:
                    self._lose(engine, reason)
            raise self._all_lost()

    def _lose(self, engine: DeviceEngine, reason: DeviceLost) -> None:
        self._lost[engine.name] = str(reason)
        log.warning("device %s failed and is left out from now on: %s", engine.name, reason)

    def _all_lost(self) -> DeviceLost:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self._lost.items())
        return DeviceLost(f"no device is left, all failed: {reasons}")


class _Seat:
    """A device at work on one search."""

    def __init__(self, engine: DeviceEngine):
        self.engine = engine
        self.lock = threading.Lock()
        self.held: Any = None  # what it loaded


def _budget(engine: DeviceEngine, memory: int | None) -> int:
    return engine.default_memory if memory is None else memory
