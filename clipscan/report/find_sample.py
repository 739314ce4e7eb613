"""The sample that a user names: by its key, its file name or SHARD/KEY, wherever that fits one only.

What is typed is taken in the first of these senses in which it fits any sample: the key, or SHARD/KEY; a path
below the dataset's own folder, as a shell completes it; the last part of the key. Each with a picture's
suffix or without it.
"""

from __future__ import annotations

import bisect
import difflib
import os
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

from clipscan.data.pictures import IMAGE_EXTENSIONS
from clipscan.data.text import printable
from clipscan.errors import RunError
from clipscan.report.identities import identities
from clipscan.run.markers import check_intact
from clipscan.run.run_folder import RunFolder

NEIGHBOURS = 40  # keys beside the one typed, in order of first and of last letters, that are held against it
NAMED = 4  # samples that a message names

Pair = tuple[str, str]


class SampleFinder:
    """The samples of a run by the names that users type. `pairs`: (shard, key) of each, in the order of
    rows."""

    def __init__(self, folder: Path, pairs: Iterable[Pair] | None = None) -> None:
        self.folder = folder
        self.pairs = list(_embedded(folder) if pairs is None else pairs)

    def find(self, name: str, shard: str = "") -> int:
        """The row of the one sample that `name` means, in `shard` where that is given. RunError where it
        means none or several, with what would do."""
        exact = self._rows.get((shard, name))
        rows = [exact] if exact is not None else self._meant(name, shard)
        if len(rows) == 1:
            return rows[0]
        label = shown((shard, name)) if shard else repr(name)
        if rows:
            raise RunError(
                f"{self.folder} has {len(rows)} samples of key {label}: say which: {self._some(rows)}"
            )
        raise RunError(f"{self.folder} has 0 samples of key {label}; {self._remedy(name, shard)}")

    def example(self) -> Pair:
        """A (shard, key) that is there; of a run without samples, one that might be."""
        return self.pairs[0] if self.pairs else ("00000.tar", "000000000")

    @cached_property
    def _rows(self) -> dict[Pair, int]:
        return {pair: row for row, pair in enumerate(self.pairs)}

    @cached_property
    def _of_key(self) -> dict[str, list[int]]:
        return _index(key for _, key in self.pairs)

    @cached_property
    def _of_last_part(self) -> dict[str, list[int]]:
        return _index(key.rsplit("/", 1)[-1] for _, key in self.pairs)

    @cached_property
    def _folders(self) -> list[str]:
        """Where the parts of the dataset lie on this machine."""
        source = RunFolder(self.folder).record.get("opened", {}).get("source", [])
        parts = source.split("::") if isinstance(source, str) else map(str, source)
        return [_folder(part) for part in parts if "://" not in part]

    @cached_property
    def _called(self) -> dict[str, int]:
        """The names of the samples, and a row of each: keys, and the last parts of keys."""
        return {name: rows[0] for names in (self._of_last_part, self._of_key) for name, rows in names.items()}

    @cached_property
    def _sorted(self) -> tuple[list[str], list[str]]:
        """The names of the samples, and the same read backwards."""
        return sorted(self._called), sorted(name[::-1] for name in self._called)

    def _meant(self, name: str, shard: str) -> list[int]:
        below = [(self._whole, path) for path in self._paths(name)]
        for sense, typed in ((self._whole, name), *below, (self._last, name)):
            for called in (typed, without_suffix(typed)):
                rows = [row for row in sense(called) if shard in ("", self.pairs[row][0])]
                if rows:
                    return rows
        return []

    def _paths(self, name: str) -> list[str]:
        """The name as a path below the dataset, where it is one."""
        return [path for folder in self._folders if (path := _below(folder, name))]

    def _whole(self, name: str) -> list[int]:
        cuts = [i for i, char in enumerate(name) if char == "/"]
        found = [self._rows.get((name[:i], name[i + 1 :])) for i in cuts]
        return sorted({*self._of_key.get(name, []), *(row for row in found if row is not None)})

    def _last(self, name: str) -> list[int]:
        return self._of_last_part.get(name, [])

    def _some(self, rows: list[int]) -> str:
        more = ", ..." if len(rows) > NAMED else ""
        return ", ".join(shown(self.pairs[row]) for row in rows[:NAMED]) + more

    def _remedy(self, name: str, shard: str) -> str:
        typed = (name, *self._paths(name))
        if reason := next(filter(None, (unreadable(self.folder, one, shard) for one in typed)), ""):
            return f"it could not be read and is on neither list (bad.parquet): {reason}"
        if shard and (elsewhere := self._meant(name, "")):
            return f"that key lies in another shard: {self._some(elsewhere)}"
        near = self._nearest(name.rsplit("/", 1)[-1]) or self._nearest(name)
        hint = f"nearest: {self._some(near)}" if near else f"one that is there: {shown(self.example())}"
        return f"{hint}. A key, a file name or SHARD/KEY will do, where it fits one sample only"

    def _nearest(self, name: str) -> list[int]:
        forwards, backwards = self._sorted
        beside = _beside(forwards, name) + [key[::-1] for key in _beside(backwards, name[::-1])]
        if name.isdigit():  # spreadsheets remove leading zeros
            padded = [key for key in forwards if key != name and key.lstrip("0") == name.lstrip("0")]
            if padded:
                return sorted({row for key in padded for row in self._whole(key) or self._last(key)})
        close = difflib.get_close_matches(name, dict.fromkeys(beside), n=2, cutoff=0.7)
        return list(dict.fromkeys(self._called[key] for key in close))


def without_suffix(name: str) -> str:
    """A picture's file name without its suffix; any other name as it is."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix.lower() in IMAGE_EXTENSIONS else name


def shown(pair: Pair) -> str:
    """SHARD/KEY, as it may be typed; on one line, control characters escaped."""
    return printable(f"{pair[0]}/{pair[1]}")


def unreadable(folder: Path, name: str, shard: str = "") -> str:
    """Why the sample of this name, or else of this last part of its key, could not be read; "" where
    bad.parquet does not name it."""
    path = folder / "bad.parquet"
    check_intact(path)
    if not path.exists():
        return ""
    typed, last = {name, without_suffix(name)}, ""
    for row in pq.read_table(path, columns=["shard", "key", "reason"]).to_pylist():
        key, fits = row["key"], shard in ("", row["shard"])
        if key and fits and typed & {key, f"{row['shard']}/{key}"}:
            return str(row["reason"])
        if key and fits and key.rsplit("/", 1)[-1] in typed:
            last = last or f"{shown((row['shard'], key))}: {row['reason']}"
    return last


def _folder(source: str) -> str:
    """The folder that a source is, or that its files or its brace list lie in."""
    return os.path.abspath(source if os.path.isdir(source) else os.path.dirname(source.partition("{")[0]))


def _below(folder: str, path: str) -> str:
    """A path below the folder from there on, "" for any other."""
    path = os.path.abspath(path)
    return os.path.relpath(path, folder) if path.startswith(folder.rstrip("/") + "/") else ""


def _embedded(folder: Path) -> Iterable[Pair]:
    for batch in identities(folder):
        yield from zip(batch.column("shard").to_pylist(), batch.column("key").to_pylist(), strict=True)


def _index(names: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        found[name].append(row)
    return found


def _beside(ordered: list[str], name: str) -> list[str]:
    at = bisect.bisect(ordered, name)
    return ordered[max(0, at - NEIGHBOURS) : at + NEIGHBOURS]
