"""What the engine of one device must do; engine/devices.py makes a back-end of one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from clipscan.engine.arrays import Array, Rows
from clipscan.engine.codebook import Codebook
from clipscan.engine.limits import Counts, Limits

Loaded = Any  # rows on a device, as its engine holds them; has n and d
Span = tuple[int, int]  # rows [begin, end)
Table = tuple[Array, Array]  # distance [rows, k] float32, index [rows, k] int64; nobody is (+inf, -1)


class DeviceEngine(Protocol):
    """One device. Calls come one at a time, but from several threads. One that fails raises DeviceLost; one
    of the main thread ends at Ctrl-C."""

    name: str  # "cuda:0"
    default_memory: int  # bytes to work in where nobody says

    def load(self, rows: Rows, book: Codebook) -> Loaded:
        """The rows encoded on the device; the originals there too, or left on the host."""

    def first_of(self, loaded: Loaded) -> Array | None:
        """[n] uint32, the first row equal to each (as floats; -0 equals 0); None where all rows differ."""

    def select(self, loaded: Loaded, positions: Array) -> Loaded:
        """The rows at ascending positions; tables then count in the selection."""

    def least_memory(self, rows: int, k: int) -> int:
        """Bytes in which `rows` rows can be at work; grows with both. Small searches must do with less:
        a budget is never refused for FEW_ROWS rows."""

    def pairs(
        self,
        loaded: Loaded,
        a: Span,
        b: Span,
        k: int,
        limit_a: Array,
        limit_b: Array,
        memory: int,
        counts: Counts,
    ) -> tuple[Table, Table | None]:
        """Rows a against rows b, disjoint, each pair once: the table of a's rows and of b's, both counted in
        `loaded`. Where a equals b, the rows among themselves, none its own neighbour, and no second table.

        limit_a, limit_b [rows] float32: distances known to bound the k-th neighbour. Who is farther may be
        left out, who is as far may not: his row number may win the tie. k may exceed the rows.
        """

    def between(
        self,
        queries: Loaded,
        reference: Loaded,
        rows: Span,
        k: int,
        query_id: Array | None,
        reference_id: Array | None,
        spans: Sequence[Span],
        memory: int,
        counts: Counts,
    ) -> list[Table]:
        """Query rows against each span of the reference, in ascending order; see kernels/README.md.
        query_id counts with the rows of `queries`."""

    def density(
        self, distance: Array, index: Array, reference: Mapping[str, Array] | None, threads: int
    ) -> dict[str, Array]:
        """As engine/reference.py:density."""

    def mean_cosine(self, a: Array, b: Array, index: Array, threads: int) -> Array:
        """As engine/reference.py:mean_cosine."""

    def interrupt(self) -> None:
        """From another thread: the call in hand shall end soon, and raise."""


class Backend(Protocol):
    """What serves searches; kernels/README.md is the contract. A module, or Devices over engines.

    All are called alike, and none needs every argument. threads: of the CPU; `Devices` has no use for them in
    `between`. memory: bytes to work in beyond input, output and codes; None, on a GPU only, for what the
    back-end thinks fit; reference.py, which holds all pairs, keeps to none. counts: of the pairs that were
    filtered and measured, added up in place; reference.py adds nothing.
    """

    LIMITS: Limits

    def within(
        self, rows: Rows, k: int, threads: int, memory: int | None, counts: Counts
    ) -> tuple[Array, Array]:
        """The table [n, k] of the rows [n, d] among themselves, none its own neighbour."""

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
        """The table [n, k] of the queries [n, d] for each span [begin, end) of the reference rows [m, d]; the
        spans are in ascending order, indices count from the begin of a span.

        query_id [n], reference_id [m]: both, and pairs of equal ids are no neighbours, or both None, and all
        pairs may be. Rows with fewer than k allowed neighbours end with (+inf, -1).
        """

    def density(
        self, distance: Array, index: Array, reference: Mapping[str, Array] | None = None, threads: int = 1
    ) -> dict[str, Array]: ...

    def mean_cosine(self, a: Array, b: Array, index: Array, threads: int = 1) -> Array: ...
