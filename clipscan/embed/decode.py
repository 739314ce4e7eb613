"""Samples -> pixels, in processes that may die.

A picture comes from whoever wrote the web page, and decoders are C. So each runs in a process of
its own kind (pixels.py) that shares nothing with us but two pipes. One that crashes, is killed for
its memory, or hangs costs the picture it was at; a new one takes the rest.

They are plain child processes, not multiprocessing's: nothing is forked under torch's threads, no
pickle crosses the pipe, and a user's script needs no `if __name__ == "__main__"`.

Two things that would be faster are left out. nvJPEG (torchvision.io.decode_jpeg on a GPU) parses hostile
bytes in the process that holds the model and the run: a crash there costs the run, and a hang cannot be
ended; to be as safe, each decoder would need a CUDA context. libjpeg's scaled decoding (Pillow's draft
mode) changes nothing before a picture is twice as large as S. And both make other pixels than open_clip,
so the vectors would depend on the machine.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from clipscan.data.sample import Bad, Sample
from clipscan.embed.pixels import PixelSpec
from clipscan.embed.process import Decoder, Died
from clipscan.engine import cores

CHUNK_SAMPLES = 64  # per request: 64 answers at 32 px are about 10 ms of work, so waiting is lost in it
CHUNK_BYTES = 2 << 20  # or this many encoded bytes, so that large photographs are spread evenly

Pixels = NDArray[np.uint8]  # [S, S, 3]
Decoded = tuple[Sample, Pixels]


class _Task(NamedTuple):
    pictures: list[bytes]
    spec: PixelSpec
    answer: Future[list[Pixels | str]]


class DecodePool:
    """`workers` decoding processes (default: one per core that we may use), started when first needed.

    A picture whose decoder dies twice, or takes longer than `time_limit` seconds, is given up.
    Use as a context manager, or call close().
    """

    def __init__(self, workers: int | None = None, *, time_limit: float = 30.0) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"a pool needs at least one decoding process, got workers={workers}")
        self.workers = workers or cores()
        self.time_limit = time_limit
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """Chunks worth having under way: everyone busy, and the next one waiting."""
        return 2 * self.workers + 2

    def submit(self, pictures: list[bytes], spec: PixelSpec) -> Future[list[Pixels | str]]:
        """Pixels, or the reason why there are none, of each picture, in order."""
        if not self._threads:
            self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self.workers)]
            for thread in self._threads:
                thread.start()
        answer: Future[list[Pixels | str]] = Future()
        self._tasks.put(_Task(pictures, spec, answer))
        return answer

    def close(self) -> None:
        """End the processes. What they are at is finished, what waits is dropped."""
        while not self._tasks.empty():
            if waiting := self._tasks.get():
                waiting.answer.cancel()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _serve(self) -> None:
        """One thread: holds at most one decoder, replaces it when it dies."""
        decoder: Decoder | None = None
        while (task := self._tasks.get()) is not None:
            try:
                answers: list[Pixels | str] = []
                deaths = 0  # at the picture that is next
                while len(answers) < len(task.pictures):
                    decoder = decoder or Decoder(self.time_limit)
                    try:
                        decoder.send(task.pictures[len(answers) :], task.spec)
                        while len(answers) < len(task.pictures):
                            answers.append(decoder.receive(task.spec))
                            deaths = 0
                    except (Died, BrokenPipeError) as death:
                        decoder.close()
                        decoder = None
                        deaths += 1
                        if deaths == 2 or (isinstance(death, Died) and death.hung):
                            answers.append(f"its decoder {death}")
                            deaths = 0
                task.answer.set_result(answers)
            except BaseException as error:
                task.answer.set_exception(error)
        if decoder is not None:
            decoder.close()


def decode_all(samples: Iterable[Sample | Bad], spec: PixelSpec, pool: DecodePool) -> Iterator[Decoded | Bad]:
    """Each sample with its pixels, uint8 [S, S, 3], in the order they came.

    What was Bad stays so; a picture that is missing, over the byte limit, over the pixel limit,
    unreadable or deadly becomes Bad with the reason. At most pool.depth chunks are in memory.
    """
    under_way: deque[tuple[list[Sample | Bad], Future[list[Pixels | str]]]] = deque()
    for chunk in _chunks(samples, spec):
        pictures = [one.image for one in chunk if isinstance(one, Sample) and one.image is not None]
        under_way.append((chunk, pool.submit(pictures, spec)))
        if len(under_way) > pool.depth:
            yield from _joined(*under_way.popleft())
    while under_way:
        yield from _joined(*under_way.popleft())


def _chunks(samples: Iterable[Sample | Bad], spec: PixelSpec) -> Iterator[list[Sample | Bad]]:
    chunk: list[Sample | Bad] = []
    size = 0
    for one in samples:
        if isinstance(one, Sample):
            if reason := _unfit(one.image, spec):
                one = Bad(one.shard, one.key, reason)
            else:
                size += len(one.image or b"")
        chunk.append(one)
        if len(chunk) == CHUNK_SAMPLES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _unfit(image: bytes | None, spec: PixelSpec) -> str:
    if not image:
        return "no picture" if image is None else "empty picture (0 bytes)"
    if len(image) > spec.max_bytes:
        return f"picture has {len(image):,} bytes; the limit is {spec.max_bytes:,}"
    return ""


def _joined(chunk: list[Sample | Bad], answer: Future[list[Pixels | str]]) -> Iterator[Decoded | Bad]:
    answers = iter(answer.result())
    for one in chunk:
        if isinstance(one, Bad):
            yield one
        elif isinstance(found := next(answers), str):
            yield Bad(one.shard, one.key, found)
        else:
            yield one, found
