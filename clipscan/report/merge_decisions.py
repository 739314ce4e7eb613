"""Decisions of several files as one: what they agree on, and what becomes of what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from clipscan.errors import DataError, InputError
from clipscan.report.decisions import read_decisions, settle
from clipscan.report.find_sample import SampleFinder, shown

REFUSE, DROP, KEEP, LAST = "refuse", "drop", "keep", "last"
CONFLICTS = (REFUSE, DROP, KEEP, LAST)
NAMED = 12  # conflicts that a message lists

Pair = tuple[str, str]


class Merged(NamedTuple):
    """drop: (shard, key) -> whether it is dropped, in the order of the files; source: the names of the files
    that say so; border: scores above it are dropped, None where no file names one."""

    drop: dict[Pair, bool]
    source: dict[Pair, str]
    border: float | None


def merge_decisions(paths: Sequence[Path], names: SampleFinder, conflicts: str = REFUSE) -> Merged:
    """The decisions of all files.

    conflicts: what becomes of a sample that one file drops and another keeps, and of different borders:
    refuse, drop (the lowest border), keep (the highest) or last (what the last file says). Samples that are
    unsure in one file are decided by the others. Errors: InputError for another word, DataError with the
    samples where conflicts are refused, and the errors of decisions.py.
    """
    if conflicts not in CONFLICTS:
        raise InputError(f"conflicts is one of {', '.join(CONFLICTS)}, got {conflicts!r}")
    files = [(path, read_decisions(path)) for path in paths]
    by_file = [settle(path, file.decisions, names) for path, file in files]
    said: dict[Pair, list[tuple[Path, bool]]] = {}
    for path, decided in zip(paths, by_file, strict=True):
        for pair, dropped in decided.items():
            said.setdefault(pair, []).append((path, dropped))
    differ = {pair: votes for pair, votes in said.items() if len({dropped for _, dropped in votes}) > 1}
    if differ and conflicts == REFUSE:
        raise DataError(_listed(differ))
    drop = {pair: _resolved([dropped for _, dropped in votes], conflicts) for pair, votes in said.items()}
    source = {
        pair: ", ".join(path.name for path, dropped in votes if dropped == drop[pair])
        for pair, votes in said.items()
    }
    return Merged(drop, source, _border([(path, file.border) for path, file in files], conflicts))


def _resolved(votes: list[bool], conflicts: str) -> bool:
    if len(set(votes)) == 1 or conflicts == LAST:
        return votes[-1]
    return conflicts == DROP


def _listed(differ: dict[Pair, list[tuple[Path, bool]]]) -> str:
    """The conflicts, and how to resolve them."""
    lines = [
        f"  {shown(pair)}: "
        + ", ".join(f"{'drop' if dropped else 'keep'} in {path.name}" for path, dropped in votes)
        for pair, votes in list(differ.items())[:NAMED]
    ]
    more = [f"  and {len(differ) - NAMED:,} more"] if len(differ) > NAMED else []
    many = "1 sample is" if len(differ) == 1 else f"{len(differ):,} samples are"
    return "\n".join(
        [
            f"{many} to be dropped and kept; agree, or say which counts: --conflicts drop, keep or last",
            *lines,
            *more,
        ]
    )


def _border(named: list[tuple[Path, float | None]], conflicts: str) -> float | None:
    found = [(path, border) for path, border in named if border is not None]
    borders = [border for _, border in found]
    if len(set(borders)) > 1 and conflicts == REFUSE:
        told = ", ".join(f"{border:g} in {path.name}" for path, border in found)
        raise DataError(
            f"the borders differ: {told}; agree, or say which counts: --conflicts drop, keep or last"
        )
    if not borders:
        return None
    return {DROP: min(borders), KEEP: max(borders)}.get(conflicts, borders[-1])
