"""What the review works on, as one JSON value: samples, suspects, groups, scores and the drop list.

Suspects are rows of suspects.parquet in their order, groups those of groups.parquet; both are bounded, and
the value says how many there are in all. `clipscan serve` shows the others.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow.parquet as pq

import clipscan
from clipscan.report.choose import method_of
from clipscan.report.convicted import Convicted
from clipscan.report.drop_schema import pairs_of
from clipscan.report.facts import Facts
from clipscan.report.glossary import about, label
from clipscan.report.map.map_file import read_map
from clipscan.report.page.border_data import border_data
from clipscan.report.page.evidence import evidence, poison
from clipscan.report.page.map_data import map_data
from clipscan.report.page.picture_sizes import Picture
from clipscan.report.page.sample_table import Numbered, SampleTable, number_or_none, values_of
from clipscan.report.read import first_rows, other_scores
from clipscan.report.visible_text import shorten
from clipscan.run.run_folder import RunFolder

SUSPECTS, GROUPS = 2000, 200  # in one file
MEMBERS, LISTED = 1000, 20_000  # of one group, of all groups
MONTAGE, CAPTIONS, OTHERS = 12, 6, 8  # pictures and captions of a group, scores of a suspect
PICTURES = 5000  # in one file, besides those of the sections without scripts
FIT = ("misfit", "cosine")  # the lower, the better picture and caption fit: the best of copies

Pair = tuple[str, str]
Row = dict[str, Any]


class Review(NamedTuple):
    """data: for JSON; pictures: by number of the sample, most important first."""

    data: dict[str, Any]
    pictures: dict[int, Picture]


def read_review(folder: Path, facts: Facts, suspects: int = SUSPECTS) -> Review:
    """The review of a run; suspects: how many of them it holds."""
    method, n = method_of(facts.record), facts.counts.embedded
    table = SampleTable()
    rows = first_rows(folder / "suspects.parquet", suspects) if suspects else []
    chosen = [table.add(row) for row in rows]
    near = _near(rows, table)
    groups = _group_rows(folder / "groups.parquet")
    members = _members(groups, table)
    values = values_of(folder, table.number, (method, *FIT))
    by_pair = {(row["shard"], row["key"]): row for row in rows}
    convicted = {one.group: one for one in facts.populations or ()}
    listed = on_drop_list(folder)
    data = {
        "version": 1,
        "run": {"path": str(folder), "id": run_id(folder, facts.record), "clipscan": clipscan.__version__},
        "method": method,
        "label": label(method),
        "n": n,
        "counts": facts.counts._asdict(),
        **table.columns(values, listed, method),
        "suspects": _suspects(rows, chosen, n, method),
        "near": near,
        "groups": [
            _group(row, numbers, table, by_pair, values, convicted.get(_number(row.get("group"))), n)
            for row, numbers in zip(groups, members, strict=True)
        ],
        "group_count": _rows(folder / "groups.parquet"),
        "border": border_data(folder, facts),
        "map": map_data(read_map(folder), table.number, listed),
    }
    return Review(data, _pictures(chosen, members, near, table))


def run_id(folder: Path, record: Row) -> str:
    """Names a run in decisions: the same for each page of it, another after a scan of other data or with
    other settings."""
    told = [record.get("dataset", {}).get("source"), record.get("asked"), record.get("definitions")]
    told += [RunFolder(folder).contents(stage) for stage in ("embed", "score")]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _rows(path: Path) -> int:
    return pq.read_metadata(path).num_rows if path.exists() else 0


def on_drop_list(folder: Path) -> set[Pair]:
    """(shard, key) of every row of drop.parquet."""
    path = folder / "drop.parquet"
    return set(pairs_of(pq.read_table(path, columns=["shard", "key"]))) if path.exists() else set()


def _suspects(rows: list[Row], chosen: list[int], n: int, method: str) -> dict[str, Any]:
    """Columns, one value a suspect."""
    whys, domains, scores = Numbered(), Numbered(), Numbered()
    others = [
        [[scores.add(one.name), number_or_none(one.value), one.rank] for one in other_scores(row, n, method)]
        for row in rows
    ]
    return {
        "sample": chosen,
        "rank": [row["rank"] for row in rows],
        "why": [whys.add(shorten(row.get("why") or "", 500)) for row in rows],
        "domain": [domains.add(domain(row.get("url") or "")) for row in rows],
        "group": [_number(row.get("group")) for row in rows],
        "alike": [_number(row.get("alike")) for row in rows],
        "others": [one[:OTHERS] for one in others],
        "whys": whys.listed(),
        "domains": domains.listed(),
        "scores": [[name, label(name), about(name)] for name in scores.listed()],
    }


def domain(url: str) -> str:
    """The host of a URL, "" where it has none."""
    try:
        return shorten((urlsplit(url).hostname or "").removeprefix("www."), 100)
    except ValueError:
        return ""


def _number(value: Any) -> int:
    return -1 if value is None else value


def _near(rows: list[Row], table: SampleTable) -> list[list[Any]]:
    """Of each suspect whose neighbours the run has looked up, the nearest first: sample, distance."""
    looked_up = [row.get("neighbors") or [] for row in rows]
    while looked_up and not looked_up[-1]:
        looked_up.pop()
    return [[[table.add(one), number_or_none(one.get("distance"))] for one in near] for near in looked_up]


def _group_rows(path: Path) -> list[Row]:
    """The first groups, those of suspects before near-copies, as the file has them."""
    return first_rows(path, GROUPS)


def _members(groups: list[Row], table: SampleTable) -> list[list[int]]:
    left, found = LISTED, []
    for row in groups:
        members = (row.get("members") or [])[: max(2 * MONTAGE, min(MEMBERS, left))]
        left -= len(members)
        found.append([table.add(member) for member in members])
    return found


def _group(
    row: Row, numbers: list[int], table: SampleTable, suspects: dict[Pair, Row], values: dict[Pair, Row],
    convicted: Convicted | None, n: int,
) -> dict[str, Any]:  # fmt: skip
    members = (row.get("members") or [])[: len(numbers)]
    captions = Counter(member.get("caption") or "" for member in members)
    captions.pop("", None)
    commonest = sorted(captions.items(), key=lambda item: (-item[1], item[0]))[:CAPTIONS]
    copies = row.get("kind", "copies") == "copies"
    return {
        "number": _number(row.get("group")),
        "kind": "copies" if copies else "convicted" if convicted else "alike",
        "verdict": shorten(row.get("verdict") or "", 200),
        "says": convicted.says if convicted else "",
        "figures": convicted.figures if convicted else "",
        "poison": poison(convicted) if convicted else "",
        "size": row["size"],
        "bound": number_or_none(row.get("distance_bound")),
        "agreement": number_or_none(row.get("caption_agreement")),
        "distinct": row.get("distinct_captions") or 0,
        "captions": [[shorten(words, 300), times] for words, times in commonest],
        "members": numbers,
        "best": _best(members, table, values) if copies else None,
        "evidence": evidence([(one["shard"], one["key"]) for one in members], suspects, n),
    }


def _best(members: list[Row], table: SampleTable, values: dict[Pair, Row]) -> int | None:
    """The copy whose caption fits it best; the first where none was compared."""
    pairs = [(member["shard"], member["key"]) for member in members]
    measure = next((name for name in FIT if any(name in values.get(pair, {}) for pair in pairs)), None)

    def misfit(pair: Pair) -> float:
        value = number_or_none(values.get(pair, {}).get(measure)) if measure else 0.0
        return float("inf") if value is None else value

    return table.number[min(pairs, key=misfit)] if pairs else None


def _pictures(
    chosen: list[int], members: list[list[int]], near: list[list[Any]], table: SampleTable
) -> dict[int, Picture]:
    """Suspects large, then what groups show at first, neighbours, and further members, small."""
    order = [(number, True) for number in chosen]
    order += [(number, False) for numbers in members for number in numbers[:MONTAGE]]
    order += [(number, False) for one in near for number, _ in one]
    order += [(number, False) for numbers in members for number in numbers[MONTAGE:]]
    large: dict[int, bool] = {}
    for number, is_suspect in order:
        large.setdefault(number, is_suspect)
    pairs, places = list(table.number), table.places
    first = list(large.items())[:PICTURES]
    return {number: Picture(*pairs[number], places[number], big) for number, big in first}
