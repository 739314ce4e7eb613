"""Work that meets damage to a run's files, and can make them again itself."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TypeVar

from clipscan.run.markers import Damaged
from clipscan.run.progress import Progress

AFTER = frozenset(("graph", "score", "select", "lists", "page"))  # what `clipscan score` makes
ALL = AFTER | {"embed", "trusted"}


T = TypeVar("T")


def mending(work: Callable[[], T], makes: AbstractSet[str], progress: Progress) -> T:
    """Do `work`; where files of stages that it makes are damaged, which undoes their tasks, do it again.

    Each time round at least one more stage is whole: files that this process made are not checked again.
    """
    for _ in makes:
        try:
            return work()
        except Damaged as damaged:
            if not damaged.stages <= makes:
                raise
            for one in damaged.found:
                progress.note(f"{one.path} {one.what}: made again")
    return work()
