"""What is done in which order on several devices: a queue of tasks, and what its order is worth."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from clipscan.engine.protocol import Span

LOOK_UP = 0.05  # seconds between two looks for Ctrl-C, or for the end of a search

Task = tuple[int, int]  # of a self-search: two segments; of a search between two sets: queries [begin, end)


def cut(n: int, parts: int) -> list[Span]:
    """[0, n) in `parts` nearly equal parts, fewer where there are fewer rows."""
    parts = min(n, parts)
    return [(n * p // parts, n * (p + 1) // parts) for p in range(parts)]


def pairs_in_order(segments: int) -> list[Task]:
    """All pairs a <= b of segments as they are queued: each with itself first, which gives every row a limit.

    Then the rounds of a tournament (the circle method): a round holds every segment once, so devices that
    work side by side write to different rows, and their limits are fresh. With 2 D segments or a multiple,
    each round gives D devices equally much to do.
    """
    odd = segments - 1 + segments % 2

    def round_of(pair: Task) -> int:
        a, b = pair
        return (a + b if b < odd else 2 * a) % odd

    pairs = [(a, b) for a in range(segments) for b in range(a + 1, segments)]
    return [(a, a) for a in range(segments)] + sorted(pairs, key=round_of)


def simulate(task_seconds: Sequence[float], devices: int) -> float:
    """The share of the time of `devices` equal devices that is work; each takes the next task when free.

    Replays a queue from the seconds of its tasks, such as Devices.schedule measured; loading is left out.
    """
    free = [0.0] * devices
    for seconds in task_seconds:
        heapq.heapreplace(free, free[0] + seconds)
    return sum(task_seconds) / (devices * max(free))


class Stopped(Exception):
    """The search was stopped before a turn came."""


class Queue:
    """Tasks that wait, and how many are open: waiting or at work. Empty until `fill`."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._waiting: deque[Task] = deque()
        self._open = 0
        self._stopped = False
        self.filled = False

    @property
    def finished(self) -> bool:
        return self.filled and not self._open

    def fill(self, tasks: Sequence[Task]) -> None:
        self._waiting.extend(tasks)
        self._open = len(tasks)
        self.filled = True

    def take(self) -> Task | None:
        """The next task; None when all are done, or none shall be begun. Where none waits but some are at
        work elsewhere, this waits, since a device may be lost and leave its task."""
        with self._change:
            self._change.wait_for(lambda: self._waiting or not self._open or self._stopped)
            return self._waiting.popleft() if self._waiting and not self._stopped else None

    def put_back(self, task: Task) -> None:
        with self._change:
            self._waiting.appendleft(task)
            self._change.notify_all()

    def done(self) -> None:
        with self._change:
            self._open -= 1
            self._change.notify_all()

    @contextmanager
    def turn(self, lock: threading.Lock) -> Iterator[None]:
        """Holds the lock; Stopped where the search is stopped first, as whoever holds it may never end."""
        while not lock.acquire(timeout=LOOK_UP):
            if self._stopped:
                raise Stopped
        try:
            yield
        finally:
            lock.release()

    def stop(self) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()
