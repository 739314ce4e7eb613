"""clipscan's result for a cell's vectors: the one place where scores, drop lists and groups come in.

    wanted(asked)              which columns
    columns(vectors, keys)     their values
    suspects(vectors)          what a scan would drop with default options
    groups(vectors)            the groups of a scan, in its order

A new score needs no word here: whether it takes a k or a reference stands in scores/table.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import clipscan
from clipscan.engine import Neighbors, as_rows
from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.run.grouping import group_suspects, members_of
from clipscan.run.options import Ranking
from clipscan.run.run import Run
from clipscan.run.selecting import suspected
from clipscan.scores import DEFAULT_K, METHODS, chosen_methods
from clipscan.scores.detect_clip import METHODS as RELEASED_METHODS
from clipscan.scores.detect_clip import K as RELEASED_K
from clipscan.scores.groups import near_copies
from clipscan.scores.references import parse_scales
from clipscan.scores.renamed import warn_if_renamed
from clipscan.scores.result import ScoreResult
from clipscan.scores.table import OF_GRAPH, SCORES

RELEASED = "detect-clip"
BATCH = 2048  # rows of one batch in the paper: what the released code compares a picture with
DEFAULT = Ranking().method  # what a scan ranks by, by default


class Key(NamedTuple):
    """Which column: a score, its neighbours (0: it takes none), its reference ("": none), whose formulas."""

    score: str
    k: int
    reference: str
    compat: str = ""


UNASKED = Key(DEFAULT, DEFAULT_K, "")
Columns = Iterator[tuple[Key, Array]]


@dataclass(frozen=True)
class Asked:
    """What is asked of every cell; lists multiply out. `seed` draws the references."""

    methods: tuple[str, ...] = ("all",)
    k: tuple[int, ...] = (DEFAULT_K,)
    references: tuple[str, ...] = ("1024x8",)
    compat: tuple[str, ...] = ()
    seed: int = 0

    def checked(self) -> Asked:
        """The same with "all" spelt out; InputError for what clipscan.score does not take."""
        asked = METHODS if self.methods == ("all",) else [warn_if_renamed(one) for one in self.methods]
        methods = tuple(chosen_methods(asked, True, known=(*METHODS, *OF_GRAPH)))
        for reference in self.references:
            if len(parse_scales(reference)) != 1:
                raise InputError(f"references: {reference!r} is a list; write it as one")
        if min(self.k) < 1:
            raise InputError(f"k must be at least 1, got {min(self.k)}")
        if other := set(self.compat) - set(RELEASED_METHODS):
            known = ", ".join(RELEASED_METHODS)
            raise InputError(f"compat: {', '.join(sorted(other))}: the released code has {known}")
        return Asked(methods, self.k, self.references, self.compat, self.seed)


class Suspects(NamedTuple):
    """What a scan would drop: row numbers, the most suspicious first; their number lies between `low` and
    `high` by its estimate."""

    rows: Array
    low: int
    high: int


@dataclass
class CellVectors:
    """The vectors of one embedded run and the names of their rows; the graph is searched on first use."""

    image: Array  # [n, d]
    text: Array | None
    identities: list[tuple[str, str]]
    pictures: Array | None = None  # untrained features [n, p]
    how: dict[str, Any] = field(default_factory=dict)  # threads, devices

    @classmethod
    def of(cls, run: Path, **how: Any) -> CellVectors:
        """Those of a run folder; RunError where it is not embedded to its end."""
        folder = Run(run)
        image, text, _ = folder.vectors
        features = folder.untrained
        names = folder.names("shard", "key")
        pairs = list(zip(names["shard"].to_pylist(), names["key"].to_pylist(), strict=True))
        return cls(
            image.take(np.arange(image.n)), None if text is None else text.take(np.arange(text.n)), pairs,
            None if features is None else features.take(np.arange(features.n)), how,
        )  # fmt: skip

    @property
    def ids(self) -> list[str]:
        """As `clipscan scan` names rows: the same references are drawn."""
        return [f"{shard}\t{key}" for shard, key in self.identities]

    @property
    def _beside(self) -> dict[str, Any]:
        return {} if self.text is None else {"text": self.text, "pictures": self.pictures}

    def score(self, **settings: Any) -> ScoreResult:
        """clipscan.score of these rows."""
        return clipscan.score(self.image, **self._beside, ids=self.ids, **settings, **self.how)

    def score_unnamed(self, **settings: Any) -> ScoreResult:
        """The same without ids: draws go by what the rows hold."""
        return clipscan.score(self.image, **self._beside, **settings, **self.how)

    @cached_property
    def ranked(self) -> ScoreResult:
        """The same with nothing asked for: what a scan ranks by."""
        return self.score()

    @cached_property
    def graph(self) -> Neighbors:
        """The exact graph over the whole set."""
        return clipscan.knn(self.image, k=min(DEFAULT_K, len(self.image) - 1), **self.how)


def wanted(asked: Asked) -> list[Key]:
    """All columns that are asked for, each once."""
    keys = [
        Key(method, k if SCORES[method].uses_k else 0, _reference(method, reference))
        for method, k, reference in product(asked.methods, asked.k, asked.references)
    ]
    released = [Key(name, RELEASED_K.get(name, 0), f"batch {BATCH}", RELEASED) for name in asked.compat]
    return list(dict.fromkeys(keys + released))


def columns(rows: CellVectors, keys: Iterable[Key], seed: int) -> Columns:
    """The values [n] of each key, higher = more suspicious. What shares a search is searched together."""
    left = set(keys)
    if seed == 0 and UNASKED in left:
        yield UNASKED, rows.ranked.columns[DEFAULT]
        left.remove(UNASKED)
    for (how, k), group in _grouped(sorted(left), lambda key: (_way(key), key.k)).items():
        yield from how(rows, group, k or None, seed)


def _way(key: Key) -> Callable[[CellVectors, Sequence[Key], int | None, int], Columns]:
    return _released if key.compat else _of_graph if key.score in OF_GRAPH else _drawn


def _released(rows: CellVectors, keys: Sequence[Key], k: int | None, seed: int) -> Columns:
    methods = [key.score for key in keys]
    scored = clipscan.score(rows.image, method=methods, k=k, compat=RELEASED, batches=BATCH, seed=seed)
    return ((key, scored.columns[key.score]) for key in keys)


def _of_graph(rows: CellVectors, keys: Sequence[Key], k: int | None, _: int) -> Columns:
    table = clipscan.knn(rows.image, k=k or DEFAULT_K, **rows.how)
    scored = clipscan.score(graph=table, method=[key.score for key in keys])
    return ((key, scored.columns[key.score]) for key in keys)


def _drawn(rows: CellVectors, keys: Sequence[Key], k: int | None, seed: int) -> Columns:
    for references, methods in _together(keys).items():
        scored = rows.score(method=methods, k=k, reference=",".join(references) or "all", seed=seed)
        for method, name in product(methods, references or ("",)):
            column = f"{method}@{name}" if len(references) > 1 else method
            yield Key(method, k or 0, name), scored.columns[column]


def suspects(rows: CellVectors) -> Suspects:
    """What clipscan would drop of these rows with default options."""
    found = rows.ranked.estimate()
    return Suspects(rows.ranked.top(found.number), found.fewest, found.most)


def groups(rows: CellVectors) -> list[list[Array]]:
    """Row numbers of each group, in the two lists of a scan's page: convicted populations and other suspects
    whose captions say the same, and near-copies, the largest first."""
    near = members_of(near_copies(rows.graph))
    ranked = rows.ranked
    label, suspects = ranked.population, ranked.top(suspected(len(rows.image), ranked.estimate()))
    assert label is not None  # DEFAULT is consensus
    convicted = [np.flatnonzero(label == one) for one in np.unique(label[label >= 0])]
    rest = suspects[label[suspects] < 0]
    return [convicted + ([] if rows.text is None else group_suspects(as_rows(rows.text), rest)[0]), near]


def _reference(method: str, reference: str) -> str:
    taken = SCORES[method].reference
    return reference if taken == "drawn" else "all" if taken == "all" else ""


def _together(keys: Iterable[Key]) -> dict[tuple[str, ...], list[str]]:
    """References -> methods that need exactly these."""
    by_method = _grouped(keys, lambda key: key.score)
    together: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for method, group in by_method.items():
        together[tuple(key.reference for key in group if key.reference)].append(method)
    return together


def _grouped(keys: Iterable[Key], by: Any) -> dict[Any, Sequence[Key]]:
    groups: dict[Any, list[Key]] = defaultdict(list)
    for key in keys:
        groups[by(key)].append(key)
    return dict(groups)
