"""groups.parquet: convicted populations, other suspects whose captions say the same, then near-copies; each
with a verdict in words."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from clipscan.engine import Rows
from clipscan.engine.arrays import Array
from clipscan.run import group_verdicts
from clipscan.scores.consensus import CROSS_MODAL, DENSITY
from clipscan.scores.groups import Groups, alike, caption_agreement, copies, near_copies, typical_distance
from clipscan.scores.references import identify

if TYPE_CHECKING:
    from clipscan.run.run import Run

LISTED_MEMBERS = 1000  # of a group, in groups.parquet; its size is the true size
COMPARED = 4096  # captions of a group that its agreement is taken over
MEMBER = pa.struct(
    [("shard", pa.string()), ("key", pa.string()), ("caption", pa.string()), ("at", pa.int64())]
)
GROUPS = pa.schema(
    [
        ("group", pa.int64()),
        ("kind", pa.string()),  # suspects | copies
        ("population", pa.int64()),  # -1 for none
        ("verdict", pa.string()),
        ("size", pa.int64()),
        ("distance_bound", pa.float64()),  # of captions among suspects, of pictures among copies
        ("caption_agreement", pa.float64()),
        ("distinct_captions", pa.int64()),
        ("top_caption", pa.string()),
        ("members", pa.list_(MEMBER)),
    ]
)
STRANGERS = 4096  # rows that say how far apart two captions usually are


class ConvictedRows(NamedTuple):
    """Rows of a population that consensus convicted: its number in run.json's score.populations, and kind."""

    number: int
    kind: str
    rows: Array


class FoundGroups(NamedTuple):
    """The groups of a run. members: row numbers of each, in the order of groups.parquet: first the
    populations `convicted` (their numbers), up to `suspected` other suspects, then near-copies."""

    members: list[Array]
    suspected: int
    bounds: tuple[float, float]  # of captions among the suspects; of pictures among the copies
    figures: list[group_verdicts.GroupFigures]
    convicted: list[int]

    def numbers(self, rows: Array) -> tuple[Array, Array]:
        """For each row: its group of near-copies, and its group of suspects; -1 for none."""
        label = np.full((2, int(max([rows.max(initial=-1), *(m.max() for m in self.members)])) + 1), -1)
        for number, members in enumerate(self.members):
            label[int(number < self.suspected), members] = number
        return label[0, rows], label[1, rows]

    def copies_of(self, group: int, names: pa.Table) -> tuple[int, int] | None:
        """Size and number of distinct captions of a group of near-copies."""
        if group < 0:
            return None
        members = self.members[group]
        return len(members), len(set(names["caption"].take(pa.array(members)).to_pylist()))


def find_groups(
    run: Run,
    suspects: Array,
    apart: int,
    ranks: dict[str, Array],
    populations: list[ConvictedRows],
) -> FoundGroups:
    """Convicted populations, the other suspects by caption, then near-copies from the graph;
    without a graph, exact copies. apart: how many of the suspects, from the first, stand apart."""
    image, text, _ = run.vectors
    graph = run.graph
    same = near_copies(graph) if graph is not None else copies(identify(image).group)
    convicted = [one.rows for one in populations]
    rest = suspects[~np.isin(suspects, np.concatenate([*convicted, np.zeros(0, np.int64)]))]
    said, bound = group_suspects(text, rest) if text else ([], 0.0)
    figures = [_figures(text, one.rows, ranks)._replace(kind=one.kind) for one in populations]
    figures += [
        _figures(text, members, ranks)._replace(apart=float(np.isin(members, suspects[:apart]).mean()))
        for members in said
    ]
    said = [*convicted, *said]
    figures += [_figures(text, members, {}) for members in members_of(same)]
    numbers = [one.number for one in populations]
    return FoundGroups([*said, *members_of(same)], len(said), (bound, same.bound), figures, numbers)


def group_suspects(text: Rows, suspects: Array) -> tuple[list[Array], float]:
    """Groups of suspects whose captions say the same, those first whose captions are most over-represented
    among the suspects, and the distance within which captions say the same."""
    if not len(suspects):
        return [], 0.0
    drawn = np.random.default_rng(0).integers(0, text.n, STRANGERS)
    said = alike(text.take(suspects), typical_distance(text.take(drawn)))
    caption = identify(text).group
    groups = [suspects[members] for members in members_of(said)]
    return sorted(groups, key=lambda members: -_excess(caption, members, len(suspects))), said.bound


def group_table(names: pa.Table, groups: FoundGroups) -> pa.Table:
    """groups.parquet: each group's kind, verdict, size, captions and members."""
    rows = []
    for number, (members, figures) in enumerate(zip(groups.members, groups.figures, strict=True)):
        suspected, convicted = number < groups.suspected, number < len(groups.convicted)
        captions = Counter(names["caption"].take(pa.array(members)).to_pylist())
        verdict = (
            group_verdicts.verdict_on_suspects(figures)
            if suspected
            else group_verdicts.verdict_on_copies(figures)
        )
        rows.append(
            {
                "group": number,
                "kind": "suspects" if suspected else "copies",
                "population": groups.convicted[number] if convicted else -1,
                "verdict": verdict,
                "size": len(members),
                "distance_bound": math.nan if convicted else groups.bounds[0 if suspected else 1],
                "caption_agreement": figures.agreement,
                "distinct_captions": len(captions),
                "top_caption": min(captions, key=lambda caption: (-captions[caption], caption)),
                "members": names.take(pa.array(members[:LISTED_MEMBERS])).select(MEMBER.names).to_pylist(),
            }
        )
    return pa.Table.from_pylist(rows, GROUPS)


def _figures(text: Rows | None, members: Array, ranks: dict[str, Array]) -> group_verdicts.GroupFigures:
    """The figures that decide a verdict; without `ranks` (of near-copies) only captions count."""
    captions = text.take(members[:COMPARED]) if text else None
    agreement = math.nan if captions is None else caption_agreement(captions)
    wordings = Counter(row.tobytes() for row in captions) if captions is not None else Counter([b""])
    commonest = max(wordings.values()) / min(len(members), COMPARED)
    alone, wrong = (_surprise(ranks, members, family) for family in (DENSITY, CROSS_MODAL))
    return group_verdicts.GroupFigures(len(members), agreement, commonest, alone, wrong)


def _surprise(ranks: dict[str, Array], members: Array, family: tuple[str, ...]) -> float:
    """Mean of -ln(rank / n) over the members and the scores of a family; NaN where there is none."""
    found = [places for name, places in ranks.items() if name.partition("@")[0] in family]
    if not found:
        return math.nan
    return float(np.mean([-np.log(places[members] / len(places)) for places in found]))


def _excess(caption: Array, members: Array, suspects: int) -> float:
    """By how many standard deviations a group holds more suspects than rows with its captions should."""
    named = np.isin(caption, np.unique(caption[members])).sum()
    expected = suspects * named / len(caption)
    return float((len(members) - expected) / math.sqrt(expected))


def members_of(groups: Groups) -> list[Array]:
    """Row numbers of each group, ascending."""
    rows = np.flatnonzero(groups.label >= 0)
    rows = rows[np.argsort(groups.label[rows], kind="stable")]
    return np.split(rows, np.cumsum(groups.size)[:-1]) if len(groups.size) else []
