"""Progress of a run: a bar on a terminal, lines in a log, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

SECONDS_BETWEEN_LINES = 10.0  # plain output: often enough to see life, rare enough to read
SECONDS_OF_RESUME = 0.5  # what is reported sooner was finished by an earlier run: no measure of speed


class Progress(Protocol):
    """What a stage reports. `share` is the finished part of the stage, 0 to 1, None while unknown."""

    def stage(self, name: str, unit: str) -> None: ...
    def advance(self, done: int, share: float | None) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """For library calls: no prints."""

    def stage(self, name: str, unit: str) -> None: ...
    def advance(self, done: int, share: float | None) -> None: ...
    def note(self, text: str) -> None: ...


class StageClock:
    """Rate and time left of one stage, from what was done since it began here (not before a resume)."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.before = (0, 0.0)  # (done, share) that an earlier run had finished

    def measure(self, done: int, share: float | None) -> tuple[float, float | None]:
        """(units a second or 0 while unknown, seconds left or None)."""
        seconds = time.monotonic() - self.began
        if seconds < SECONDS_OF_RESUME:
            self.before = (done, share or 0.0)
            return 0.0, None
        moved = (share or 0.0) - self.before[1]
        left = seconds * (1 - (share or 0.0)) / moved if share is not None and moved > 0 else None
        return (done - self.before[0]) / seconds, left


class ShardMeter:
    """Samples done, as a share of shards of known size but unknown length.

    Inside a shard the share is estimated from the samples per byte of the shards before it.
    """

    def __init__(self, progress: Progress, sizes: Sequence[int]) -> None:
        self.progress = progress
        self.weights = [max(size, 1) for size in sizes]
        self.total = sum(self.weights)
        self.number = self.samples = self.inside = self.weight_done = 0

    def tick(self, count: int) -> None:
        """`count` more samples of the shard under way."""
        self.inside += count
        here, part = self.weights[self.number], 0.0
        if self.weight_done and self.samples:
            part = min(self.inside * self.weight_done / (self.samples * here), 0.99)
        self.progress.advance(self.samples + self.inside, (self.weight_done + part * here) / self.total)

    def finish(self, samples: int) -> None:
        """The shard under way is done and held so many samples, or had been done by an earlier run."""
        self.samples += samples
        self.weight_done += self.weights[self.number]
        self.number, self.inside = self.number + 1, 0
        self.progress.advance(self.samples, self.weight_done / self.total)


class Lines:
    """Plain lines, one every few seconds; or JSON objects, one a line, for machines."""

    def __init__(self, out: TextIO | None = None, as_json: bool = False) -> None:
        self.out = out or sys.stderr
        self.as_json = as_json
        self.name, self.unit, self.clock, self.last = "", "", StageClock(), 0.0

    def stage(self, name: str, unit: str) -> None:
        self.name, self.unit, self.clock, self.last = name, unit, StageClock(), time.monotonic()
        self._say({"stage": name}, f"{name} ...")

    def advance(self, done: int, share: float | None) -> None:
        rate, left = self.clock.measure(done, share)
        if time.monotonic() - self.last < SECONDS_BETWEEN_LINES and share != 1.0:
            return
        self.last = time.monotonic()
        fields = {"stage": self.name, "done": done, "unit": self.unit, "per_second": round(rate, 1)}
        if share is not None:
            fields |= {"share": round(share, 4), "seconds_left": None if left is None else round(left)}
        self._say(fields, progress_line(self.name, self.unit, done, share, rate, left))

    def note(self, text: str) -> None:
        self._say({"note": text}, text)

    def _say(self, fields: dict[str, Any], line: str) -> None:
        print(json.dumps(fields) if self.as_json else line, file=self.out, flush=True)


class ProgressBar:
    """One line on a terminal that rewrites itself."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.name, self.unit, self.clock = "", "", StageClock()
        self.open = False

    def stage(self, name: str, unit: str) -> None:
        self._close()
        self.name, self.unit, self.clock = name, unit, StageClock()

    def advance(self, done: int, share: float | None) -> None:
        rate, left = self.clock.measure(done, share)
        width = 24
        full = round(width * (share or 0.0))
        line = progress_line(self.name, self.unit, done, share, rate, left)
        print(f"\r\x1b[K[{'#' * full}{'.' * (width - full)}] {line}", end="", file=sys.stderr, flush=True)
        self.open = True
        if share == 1.0:
            self._close()

    def note(self, text: str) -> None:
        self._close()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _close(self) -> None:
        if self.open:
            print(file=sys.stderr, flush=True)
            self.open = False


def progress_line(
    name: str, unit: str, done: int, share: float | None, rate: float, left: float | None
) -> str:
    """embed  12,000 images  24 %  240 images/s  2:39 left"""
    parts = [f"{name:<7}", f"{done:,} {unit}"]
    if share is not None:
        parts.append(f"{100 * share:.0f} %")
    if rate > 0:
        parts.append(f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s")
    if left is not None and left >= 1:
        parts.append(
            f"{int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d} left".removeprefix("0:")
        )
    return "  ".join(parts)
