"""The engine of one device, as clipscan/engine/protocol.py wants it: loads rows, searches, scores. Torch and
Triton.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from clipscan.engine.arrays import Array, Rows
from clipscan.engine.codebook import Codebook
from clipscan.engine.limits import Counts
from clipscan.engine.protocol import Span, Table
from clipscan.errors import BackendError, DeviceLost

from . import copies, density, loaded, search, waiting
from .loaded import Loaded, to_device
from .sizes import Sizes, of_device

RESIDENT = 0.5  # of the memory that is free: originals may take so much of it, candidates need the rest
WORKING = 4  # one in so many of the device's bytes to work in, where nobody says
HOST_MEMORY = 1 << 30  # of the interpreter, likewise

INTERPRETER = threading.RLock()  # it changes triton.language while it runs: one kernel at a time

T = TypeVar("T")


def _guarded(method: Callable[..., T]) -> Callable[..., T]:
    """Launches go to the engine's device, whatever the thread's is; what the device says is told in our
    words.
    """

    @functools.wraps(method)
    def call(self: TritonEngine, *arguments: Any) -> T:
        on = torch.cuda.device(self.device) if self.device.type == "cuda" else INTERPRETER
        waiting.asked.discard(self.name)
        try:
            with on:
                return method(self, *arguments)
        except torch.OutOfMemoryError as error:
            raise BackendError(
                f"{self.name} has too little memory: {error}; give a smaller max_memory"
            ) from error
        except RuntimeError as error:
            if isinstance(error, getattr(torch, "AcceleratorError", ())) or "Triton Error" in str(error):
                raise DeviceLost(f"{self.name}: {error}") from error
            raise

    return call


class TritonEngine:
    """One GPU, or the CPU where Triton's interpreter plays one. `resident`: bytes that originals may take
    there.
    """

    def __init__(self, device: str, sizes: Sizes | None = None, resident: int | None = None):
        self.name, self.device = device, torch.device(device)
        self.resident = resident
        if self.device.type == "cuda":
            facts = torch.cuda.get_device_properties(self.device)
            self.sizes = sizes or of_device(facts.major, bool(torch.version.hip))
            self.default_memory = facts.total_memory // WORKING
        else:
            self.sizes, self.default_memory = sizes or of_device(None, False), HOST_MEMORY
        self._salts: dict[int, Any] = {}

    @_guarded
    def load(self, rows: Rows, book: Codebook) -> Loaded:
        """A tensor that lies on the device already is read there, not copied; half precision is kept so."""
        room = self.resident
        if room is None:
            room = int(RESIDENT * max(0, self._free() - rows.n * book.width))
        if rows.d not in self._salts:
            self._salts[rows.d] = copies.new_salt(rows.d, self.device)
        return loaded.load(rows, book, self.device, self.sizes, room, self._salts[rows.d])

    def _free(self) -> int:
        """Bytes that nobody uses; what torch keeps for later counts as such."""
        if self.device.type != "cuda":
            return 1 << 62
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(torch.cuda.mem_get_info(self.device)[0]) + kept

    def interrupt(self) -> None:
        waiting.asked.add(self.name)

    @_guarded
    def first_of(self, held: Loaded) -> Array | None:
        waiting.rest(self.device)
        first = copies.first_of(held.hashes, held.d, held.take)
        if bool((first == torch.arange(held.n, device=first.device)).all()):
            return None
        return first.cpu().numpy().astype("uint32")  # type: ignore[no-any-return]

    @_guarded
    def select(self, held: Loaded, positions: Array) -> Loaded:
        return held.select(positions)

    def least_memory(self, rows: int, k: int) -> int:
        return search.least_memory(rows, k, self.sizes.tile)

    @_guarded
    def pairs(
        self, held: Loaded, a: Span, b: Span, k: int, limit_a: Array | None, limit_b: Array | None,
        memory: int, counts: Counts,
    ) -> tuple[Table, Table | None]:  # fmt: skip
        """See clipscan/engine/protocol.py. Limits may be None: nothing is known."""
        own, other = (end - begin for begin, end in (a, b))
        capacity = search.capacity_for(own if a == b else own + other, k, memory, self.sizes.tile)
        first = search.begin(held, a, k, limit_a, capacity)
        second = first if a == b else search.begin(held, b, k, limit_b, capacity)
        ordered = (first, second) if own <= other else (second, first)
        if own and other:
            work = search.Search(*ordered, (None, None), counts)
            work.walk()
            work.finish()
        return search.table(first, 0), None if a == b else search.table(second, 0)

    @_guarded
    def between(
        self, queries: Loaded, reference: Loaded, rows: Span, k: int, query_id: Array | None,
        reference_id: Array | None, spans: Sequence[Span], memory: int, counts: Counts,
    ) -> list[Table]:  # fmt: skip
        """See clipscan/engine/protocol.py. Spans that begin together share a walk."""
        own_id, other_id = (
            None if i is None else to_device(i, self.device) for i in (query_id, reference_id)
        )
        capacity = search.capacity_for(rows[1] - rows[0], k, memory, self.sizes.tile)
        tables, origin, done = [], None, 0
        for begin, end in spans:
            if begin != origin:
                side, origin, done = search.begin(queries, rows, k, None, capacity), begin, begin
            if done < end:
                work = search.Search(
                    side, search.only_met(reference, (done, end)), (own_id, other_id), counts
                )
                work.walk((done - begin) // self.sizes.tile)
                work.finish()
            done = max(done, end)
            tables.append(search.table(side, begin))
        return tables

    @_guarded
    def density(
        self, distance: Array, index: Array, reference: Mapping[str, Array] | None = None, threads: int = 1
    ) -> dict[str, Array]:
        return density.density(distance, index, reference, self.device)

    @_guarded
    def mean_cosine(self, a: Array, b: Array, index: Array, threads: int = 1) -> Array:
        return density.mean_cosine(a, b, index, self.device)
