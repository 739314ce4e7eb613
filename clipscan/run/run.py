"""One run as a value: its folder, its dataset, and what its stages made, each read once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipscan.data import Dataset
from clipscan.engine import Neighbors, Rows
from clipscan.errors import RunError
from clipscan.run.graph import read_graph
from clipscan.run.listing import SCAN_AGAIN
from clipscan.run.run_folder import RunFolder, run_record
from clipscan.run.scanned import changed_since, reopened
from clipscan.run.scoring import read_scores
from clipscan.run.vectors import RunVectors, map_vectors, read_names, read_untrained, verify_vectors


class Run(RunFolder):
    """One run, as every command takes it. Contents are read on first use, checked against what was written,
    and kept until a task of the run writes anew."""

    def __init__(self, path: str | Path, dataset: Dataset | None = None) -> None:
        """dataset: that of a run which is being made; without it, the one that the run was made from."""
        super().__init__(path)
        if dataset is not None:
            self.dataset = dataset

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset, opened as it was; RunError when it is gone, or no longer what was scanned."""
        dataset, changes = reopened(self)
        if changes:
            raise RunError(f"{changed_since(self, changes)}. {SCAN_AGAIN}")
        return dataset

    @cached_property
    def mapped(self) -> RunVectors:
        """The vectors, unchecked: enough for their number and width."""
        return map_vectors(self)

    @cached_property
    def vectors(self) -> RunVectors:
        """The vectors, memory-mapped. Damaged or DataError where they are not what was scanned."""
        verify_vectors(self)
        return self.mapped

    @cached_property
    def untrained(self) -> Rows | None:
        """Untrained features [n, 688], None where there are none."""
        return read_untrained(self)

    def names(self, *columns: str) -> pa.Table:
        """Columns of the metadata of all embedded samples, in the order of the vectors."""
        return read_names(self, columns)

    @cached_property
    def graph(self) -> Neighbors | None:
        """The exact graph, None where the run has none."""
        return read_graph(self)

    @cached_property
    def scores(self) -> pa.Table:
        """All scores, in the order of the vectors."""
        return read_scores(self)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Dataset]:
        """Inside, no other process works in the run, and its dataset is open. RunError where there is no
        run, where it is held, or where the dataset is not what was scanned."""
        run_record(self.path)  # a lock would make the folder
        with self.lock():
            yield self.dataset

    def task(self, task: str, fingerprint: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """As of RunFolder; what was read before `work` wrote is forgotten."""

        def anew() -> dict[str, Any]:
            said = work()
            self._forget()
            return said

        return super().task(task, fingerprint, anew)

    def clear(self, first: str) -> None:
        """As of RunFolder; what was read before is forgotten."""
        super().clear(first)
        self._forget()

    def _forget(self) -> None:
        for name in ("mapped", "vectors", "untrained", "graph", "scores"):
            self.__dict__.pop(name, None)
