"""Samples -> pixels, in processes that may crash.

A picture comes from an unknown web page, and decoders are C. So each runs in a process of
its own kind (pixels.py) that shares nothing with us but two pipes. One that crashes, is killed for
its memory, or hangs costs the picture it was at; a new one takes the rest.

They are plain child processes, not multiprocessing's: nothing is forked under torch's threads, no
pickle crosses the pipe, and a user's script needs no `if __name__ == "__main__"`.

Pixels are those of open_clip's own preprocessing, to the bit, on every machine with the same Pillow: most of
the time went into Pillow's resizing, which csrc/resample.h does faster without changing a byte. Two things
that would be faster still are left out. nvJPEG (torchvision.io.decode_jpeg on a GPU) parses hostile bytes in
the process that holds the model and the run: a crash there costs the run, and a hang cannot be ended; to be
as safe, each decoder would need a CUDA context. libjpeg's scaled decoding (Pillow's draft mode) changes
nothing before a picture is twice as large as S, and then it changes the pixels, by 0.25 to 1.3 levels of 255
in the mean where twice S remains (`clipscan bench decode --size 64`). simplejpeg and opencv decode no faster
than Pillow: all do it by libjpeg-turbo.
"""

from __future__ import annotations

import queue
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Self

from clipscan.data.sample import Bad, Sample
from clipscan.embed.decode_worker import Allowance, DecodeWorker, Pixels, Task
from clipscan.embed.pixels import PixelSpec
from clipscan.engine import cores
from clipscan.errors import InputError

CHUNK_SAMPLES = 64  # per request: 64 answers at 32 px are about 10 ms of work, so waiting is lost in it
CHUNK_BYTES = 2 << 20  # or this many encoded bytes, so that large photographs are spread evenly
TIME_LIMIT = 30.0  # seconds
SHARD_LIMIT = 600.0  # seconds

Decoded = tuple[Sample, Pixels]


class DecodePool:
    """`workers` decoding processes (default: one per core that we may use), started when first needed.

    A picture whose decoder dies twice, or takes longer than `time_limit` seconds, is given up. The first
    USUAL_SECONDS (decode_worker.py) of each picture are free. Time beyond them is counted; when it comes to
    `shard_limit` for one shard, the rest of its pictures have USUAL_SECONDS each.
    Use as a context manager, or call close(): either ends the processes at once, whatever they are at.
    """

    def __init__(
        self, workers: int | None = None, *, time_limit: float = TIME_LIMIT, shard_limit: float = SHARD_LIMIT
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"at least one decoding process is needed, got workers={workers}")
        self.workers = workers or cores()
        self.time_limit, self.shard_limit = time_limit, shard_limit
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._threads: list[DecodeWorker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """Chunks worth having under way: every process busy, and the next chunk waiting."""
        return 2 * self.workers + 2

    def submit(
        self, pictures: list[bytes], allowances: list[Allowance], spec: PixelSpec
    ) -> Future[list[Pixels | str]]:
        """Pixels, or the reason why there are none, of each picture, in order."""
        if not self._threads:
            self._threads = [DecodeWorker(self._tasks, self.time_limit) for _ in range(self.workers)]
            for thread in self._threads:
                thread.start()
        answer: Future[list[Pixels | str]] = Future()
        self._tasks.put(Task(pictures, allowances, spec, answer))
        return answer

    def close(self) -> None:
        """End the processes at once. Whoever still waits for an answer gets CancelledError."""
        while not self._tasks.empty():
            if waiting := self._tasks.get():
                waiting.answer.cancel()
        for thread in self._threads:
            thread.stop()
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []


def decode_all(samples: Iterable[Sample | Bad], spec: PixelSpec, pool: DecodePool) -> Iterator[Decoded | Bad]:
    """Each sample with its pixels, uint8 [S, S, 3], in the order they came.

    What was Bad stays so; a picture that is missing, over the byte limit, over the pixel limit, too slow,
    unreadable or deadly becomes Bad with the reason. At most pool.depth chunks are in memory.
    """
    shards: defaultdict[str, Allowance] = defaultdict(lambda: Allowance(pool.shard_limit))
    under_way: deque[tuple[list[Sample | Bad], Future[list[Pixels | str]]]] = deque()
    for chunk in _chunks(samples, spec):
        good = [(one.image, shards[one.shard]) for one in chunk if isinstance(one, Sample) and one.image]
        pictures, allowances = [picture for picture, _ in good], [allowance for _, allowance in good]
        under_way.append((chunk, pool.submit(pictures, allowances, spec)))
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
