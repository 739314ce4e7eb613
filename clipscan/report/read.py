"""Reads a run folder into Facts: only the rows that the page shows, however long the files are.

Tolerant of what a run may lack (captions, groups, bad samples, lists); not of a missing suspects.parquet.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.errors import RunError
from clipscan.report.album import LARGE, SMALL, Want
from clipscan.report.choose import method_of
from clipscan.report.convicted import convicted_of
from clipscan.report.drop_schema import pairs_of
from clipscan.report.facts import (
    BadKind,
    Channel,
    Facts,
    Neighbour,
    OtherScore,
    PageGroup,
    SampleCounts,
    Suspect,
)
from clipscan.report.glossary import is_density_score, is_pair_score
from clipscan.report.identities import not_scored
from clipscan.report.rule import dropping, rule_of_run
from clipscan.run.bad_reasons import kind_of
from clipscan.run.check_learnt import learnt_words
from clipscan.run.markers import check_intact, rows_in
from clipscan.scores.estimate import Estimate

TOP_SHARE = 0.01  # a suspect counts as "also found by" a score within this share of its ranking
SUSPECTS, NEIGHBOURS = 16, 8  # cards of the page without scripts, and neighbours on each
COPIES, SUSPECTED = "copies", "suspects"  # kinds of groups
GROUPS, MEMBERS, CAPTIONS = 8, 24, 4  # groups on the page; pictures and captions of each
EXAMPLES = 3  # names given of each kind of bad sample

Row = dict[str, Any]


def read_facts(folder: Path, run_json: dict[str, Any]) -> Facts:
    """The run folder as Facts. RunError without suspects.parquet."""
    suspects = folder / "suspects.parquet"
    check_intact(suspects, *(folder / name for name in ("groups.parquet", "bad.parquet", "drop.parquet")))
    if not suspects.exists():
        raise RunError(not_scored(folder))
    dropped = _dropped(folder / "drop.parquet")
    counts = _counts(folder, run_json.get("counts", {}))
    method = method_of(run_json)
    learnt, doubt = learnt_words(run_json)
    populations, suspected = convicted_of(folder), _groups(folder / "groups.parquet", SUSPECTED)
    by_number = {one.group: one for one in populations or ()}
    return Facts(
        record=run_json,
        counts=counts,
        suspects=[
            _suspect(row, counts.embedded, method, (row["shard"], row["key"]) in dropped)
            for row in first_rows(suspects, SUSPECTS)
        ],
        groups=_groups(folder / "groups.parquet", COPIES),
        populations=populations,
        convicted=[(by_number[group.number], group) for group in suspected if group.number in by_number],
        alike=[group for group in suspected if group.number not in by_number],
        alone=_channel(suspects, is_density_score, counts.embedded),
        mismatched=_channel(suspects, is_pair_score, counts.embedded),
        estimate=_estimate(run_json),
        dropping=dropping(rule_of_run(folder), method, counts.dropped),
        learnt=learnt,
        doubt=doubt,
        bad=_bad(folder / "bad.parquet"),
        cut=_lowest_score(suspects),
    )


def _counts(folder: Path, stated: dict[str, Any]) -> SampleCounts:
    """From the files, which are what people will use; from run.json where there is no file."""
    metadata = sorted((folder / "embeddings" / "metadata").glob("*.parquet"))
    rows = sum(map(rows_in, metadata))
    embedded = rows if metadata else stated.get("embedded", 0)
    bad = _rows(folder / "bad.parquet", stated.get("bad")) or 0
    return SampleCounts(
        listed=stated.get("listed", embedded + bad),
        embedded=embedded,
        bad=bad,
        suspects=_rows(folder / "suspects.parquet", None) or 0,
        groups=_copies(folder / "groups.parquet", stated.get("groups")),
        dropped=_rows(folder / "drop.parquet", stated.get("dropped")),
    )


def _copies(path: Path, otherwise: int | None) -> int | None:
    """Groups of near-copies in groups.parquet."""
    if not path.exists():
        return otherwise
    with pq.ParquetFile(path) as file:
        if "kind" not in file.schema_arrow.names:
            return int(file.metadata.num_rows)
        return sum(batch.column(0).to_pylist().count(COPIES) for batch in file.iter_batches(columns=["kind"]))


def _dropped(path: Path) -> set[tuple[str, str]]:
    return set(pairs_of(pq.read_table(path, columns=["shard", "key"]))) if path.exists() else set()


def _rows(path: Path, otherwise: int | None) -> int | None:
    return pq.read_metadata(path).num_rows if path.exists() else otherwise


def first_rows(path: Path, count: int) -> list[Row]:
    if not path.exists():
        return []
    with pq.ParquetFile(path) as file:
        return next((batch.to_pylist() for batch in file.iter_batches(count)), [])


def _want(row: Row, side: int) -> Want:
    at = row.get("at")
    return Want(row["shard"], row["key"], -1 if at is None else at, side)


def _suspect(row: Row, n: int, method: str, dropped: bool) -> Suspect:
    near = row.get("neighbors") or []
    return Suspect(
        want=_want(row, LARGE),
        rank=row["rank"],
        dropped=dropped,
        caption=row.get("caption") or "",
        score=row["score"],
        why=row.get("why") or "",
        others=other_scores(row, n, method),
        neighbours=[_neighbour(one) for one in near[:NEIGHBOURS]],
    )


def other_scores(row: Row, n: int, method: str) -> list[OtherScore]:
    """Every score with a rank column but the one that ranks, most suspicious first."""
    names = [name.removesuffix("_rank") for name in row if name.endswith("_rank")]
    found = [
        OtherScore(name, row.get(name, math.nan), row[f"{name}_rank"], _share(row[f"{name}_rank"], n))
        for name in names
        if name != method and row[f"{name}_rank"] is not None
    ]
    return sorted(found, key=lambda score: (score.rank, score.name))


def _channel(path: Path, of_kind: Callable[[str], bool], n: int) -> Channel | None:
    """How many suspects are among the top of a score of this kind; None where there is no such score."""
    ranks = [name for name in pq.read_schema(path).names if name.endswith("_rank")]
    names = sorted(name.removesuffix("_rank") for name in ranks if of_kind(name.removesuffix("_rank")))
    if not names:
        return None
    table = pq.read_table(path, columns=[f"{name}_rank" for name in names])
    top = max(1.0, TOP_SHARE * n)
    found = [pc.fill_null(pc.less_equal(column, top), False).to_numpy() for column in table.columns]
    return Channel(names, int(np.any(found, axis=0).sum()))


def _share(rank: int, n: int) -> float:
    return 1.0 - math.log(max(1, min(rank, n))) / math.log(n) if n > 1 else 0.0


def _neighbour(row: Row) -> Neighbour:
    return Neighbour(_want(row, SMALL), row.get("caption") or "", row.get("distance", math.nan))


def _groups(path: Path, kind: str) -> list[PageGroup]:
    """The first GROUPS of a kind."""
    found: list[PageGroup] = []
    if not path.exists():
        return found
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(256):
            found += [_group(row) for row in batch.to_pylist() if row.get("kind", COPIES) == kind]
            if len(found) >= GROUPS:
                break
    return found[:GROUPS]


def _estimate(run_json: dict[str, Any]) -> Estimate | None:
    """The estimate, where run.json has it and its numbers are numbers."""
    found = run_json.get("estimate")
    names = ("number", "fewest", "most")
    if isinstance(found, dict) and all(isinstance(found.get(name), int) for name in names):
        return Estimate.of({"border": None} | found)
    return None


def _group(row: Row) -> PageGroup:
    members = row.get("members") or []
    captions = Counter(member.get("caption") or "" for member in members)
    captions.pop("", None)
    agreement = row.get("caption_agreement")
    return PageGroup(
        number=row.get("group") or 0,
        verdict=row.get("verdict") or "",
        size=row["size"],
        distance_bound=row.get("distance_bound", math.nan),
        agreement=math.nan if agreement is None else agreement,
        distinct_captions=row.get("distinct_captions") or 0,
        captions=sorted(captions.items(), key=lambda item: (-item[1], item[0]))[:CAPTIONS],
        members=[_want(member, SMALL) for member in members[:MEMBERS]],
    )


def _bad(path: Path) -> list[BadKind]:
    """Kinds of reasons, commonest first."""
    kinds: dict[str, list[Any]] = {}  # pattern -> [first reason, count, examples]
    for row in pq.read_table(path).to_pylist() if path.exists() else ():
        kind = kinds.setdefault(kind_of(row["reason"]), [row["reason"], 0, []])
        kind[1] += 1
        if len(kind[2]) < EXAMPLES:
            kind[2].append((row["shard"], row["key"]))
    return sorted((BadKind(*kind) for kind in kinds.values()), key=lambda kind: (-kind.samples, kind.reason))


def _lowest_score(path: Path) -> float:
    lowest = pc.min(pq.read_table(path, columns=["score"])["score"]).as_py()
    return math.nan if lowest is None else float(lowest)
