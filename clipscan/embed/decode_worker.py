"""One thread of a DecodePool: holds at most one decoder, replaces it when it dies, ends it on request."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.embed.pixels import PixelSpec
from clipscan.embed.process import Decoder, Died
from clipscan.errors import ClipscanError

START_TRIES = 3  # one that was killed while it started says nothing about the next; three in a row do
START_PAUSE = 0.5  # seconds, times the number of failures
USUAL_SECONDS = 2.0  # 90 million pixels, the most that a picture may have, on a slow core

Pixels = NDArray[np.uint8]  # [S, S, 3]


class Allowance:
    """Decoder seconds that the slow pictures of one shard may take, beyond USUAL_SECONDS each.

    When they are spent a picture has USUAL_SECONDS, so that hostile pictures cost a shard this much and
    no more, and ordinary ones after them are still read. Several decoders may spend from it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds
        self._lock = threading.Lock()

    def limit(self, most: float) -> float:
        """Seconds that the next picture may take, at most `most`."""
        return min(most, USUAL_SECONDS + max(0.0, self.left))

    def spend(self, seconds: float) -> None:
        with self._lock:
            self.left -= max(0.0, seconds - USUAL_SECONDS)

    def reason(self, limit: float, most: float) -> str:
        """What to add to "took longer than `limit`"."""
        return (
            f"; the slow pictures of its shard have used up their {self.seconds:g} s" if limit < most else ""
        )


class Task(NamedTuple):
    """Pictures to decode, each with the allowance of its shard."""

    pictures: list[bytes]
    allowances: list[Allowance]
    spec: PixelSpec
    answer: Future[list[Pixels | str]]


class _Stopped(Exception):
    """The pool ends; the answer is not waited for."""


class DecodeWorker(threading.Thread):
    """Takes tasks until it gets None, or is stopped."""

    def __init__(self, tasks: queue.SimpleQueue[Task | None], time_limit: float) -> None:
        super().__init__(daemon=True)
        self._tasks, self._time_limit = tasks, time_limit
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # between the start of a decoder and its registration
        self._decoder: Decoder | None = None

    def run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task.answer.set_result(self._decode(task))
            except _Stopped:
                task.answer.cancel()
            except BaseException as error:
                task.answer.set_exception(error)
        self._drop()

    def stop(self) -> None:
        """End the decoder now, whatever it is at; the thread then ends by itself. For other threads."""
        with self._lock:
            self._stopping.set()
            if self._decoder is not None:
                self._decoder.kill()

    def _decode(self, task: Task) -> list[Pixels | str]:
        answers: list[Pixels | str] = []
        deaths = 0  # at the picture that is next
        while (at := len(answers)) < len(task.pictures):
            decoder = self._decoder or self._ready()
            try:
                decoder.send(task.pictures[at:], task.spec, self._time_limit)
                for allowance in task.allowances[at:]:
                    answers.append(self._receive(decoder, task.spec, allowance))
                    deaths = 0
            except Died as death:
                self._drop()
                if self._stopping.is_set():
                    raise _Stopped from None
                deaths += 1
                if deaths == 2 or death.hung:
                    answers.append(f"its decoder {death}")
                    deaths = 0
        return answers

    def _receive(self, decoder: Decoder, spec: PixelSpec, allowance: Allowance) -> Pixels | str:
        limit = allowance.limit(self._time_limit)
        began = time.monotonic()
        try:
            return decoder.receive(spec, limit)
        except Died as death:
            if death.hung:
                raise Died(f"{death}{allowance.reason(limit, self._time_limit)}", hung=True) from None
            raise
        finally:
            allowance.spend(min(limit, time.monotonic() - began))

    def _ready(self) -> Decoder:
        """A decoder that is ready; ClipscanError when START_TRIES in a row did not come so far."""
        for failures in range(START_TRIES):
            self._stopping.wait(failures * START_PAUSE)
            try:
                with self._lock:
                    if self._stopping.is_set():
                        raise _Stopped
                    self._decoder = Decoder(self._time_limit)
                self._decoder.wait_until_ready()
                return self._decoder
            except (Died, OSError) as failure:  # OSError: no memory, no process left for this user
                self._drop()
                why = failure
        raise ClipscanError(f"a decoding process did not start, {START_TRIES} times in a row: {why}")

    def _drop(self) -> None:
        with self._lock:
            decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()
