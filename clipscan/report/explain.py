"""One sample, as text: suspected, dropped or not, and why; its scores, its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipscan.data.text import printable
from clipscan.engine.arrays import Array
from clipscan.report.choose import ranking
from clipscan.report.drop_schema import Pair, listed
from clipscan.report.find_sample import SampleFinder, shown
from clipscan.report.glossary import about, label
from clipscan.run.markers import check_intact
from clipscan.run.run import Run
from clipscan.run.selecting import nearest, ranks_of
from clipscan.run.why_suspected import why


def explain(run: Run, name: str) -> str:
    """The sample that `name` means (report/find_sample.py), in words and figures.

    RunError where there is none, or several, and where the run is not scored.
    """
    scores = run.scores
    names = SampleFinder(run.path)
    row = names.find(name)
    captions = run.names("caption")["caption"]

    def line(at: int) -> str:
        return f"{shown(names.pairs[at])}  {printable(captions[at].as_py() or '')!r}"

    table = nearest(run, np.array([row]))
    near = zip(table.distance[0].tolist(), table.index[0].tolist(), strict=True)
    return "\n".join(
        [
            line(row),
            *_standing(run, scores, names.pairs[row], row),
            "",
            *_figures(scores, row),
            "",
            "nearest in the whole set, by distance between pictures:",
            *(f"{distance:>10.4g}  {line(at)}" for distance, at in near if at >= 0),
        ]
    )


def _standing(run: Run, scores: pa.Table, pair: Pair, row: int) -> Iterator[str]:
    """Whether the sample is suspected and dropped, its groups, and why."""
    method, n = ranking(run.path, scores.column_names), scores.num_rows
    ranks = ranks_of(scores)
    suspect = _suspect(run, pair)
    suspected = "a suspect" if suspect else "not a suspect"
    yield f"{suspected}: rank {ranks[method][row]:,} of {n:,} by {method}"
    dropped = _of_pair(listed(run.path), pair)
    yield f"on the drop list: {dropped['reason']}" if dropped else "not on the drop list"
    numbers = {suspect.get("alike"), suspect.get("group")} - {None, -1}
    for group in _groups(run) if numbers else []:
        if group["group"] in numbers:
            yield f"in group {group['group']} of groups.parquet, of {group['size']:,}: {group['verdict']}"
    said = suspect.get("why") or _why(run, scores, ranks, row)
    yield f"why: {said or 'nothing about it is out of the ordinary'}"


def _why(run: Run, scores: pa.Table, ranks: dict[str, Array], row: int) -> str:
    values = {name: scores[name][row].as_py() for name in ranks}
    typical = {name: float(np.median(scores[name].to_numpy())) for name in ranks}
    places = {f"{name}_rank": int(rank[row]) for name, rank in ranks.items()}
    return why(values | places, typical, scores.num_rows, run.record["score"])


def _figures(scores: pa.Table, row: int) -> Iterator[str]:
    """A line for every score: its value, what is usual, its rank."""
    n = scores.num_rows
    yield f"of every score a higher value is more suspicious; rank 1 of {n:,} is the most suspicious"
    yield f"{'score':<16}{'value':>12}{'median':>12}{'rank':>12}  what it measures"
    for name, rank in ranks_of(scores).items():
        values = scores[name].to_numpy()
        figures = f"{values[row]:>12.5g}{np.nanmedian(values):>12.5g}{rank[row]:>12,}"
        yield f"{label(name):<16}{figures}  {about(name)}".rstrip()


def _suspect(run: Run, pair: Pair) -> dict[str, Any]:
    path = run / "suspects.parquet"
    columns = ["shard", "key", "group", "alike", "why"]
    check_intact(path)
    return _of_pair(pq.read_table(path, columns=columns), pair) if path.exists() else {}


def _groups(run: Run) -> list[dict[str, Any]]:
    path = run / "groups.parquet"
    check_intact(path)
    return pq.read_table(path, columns=["group", "size", "verdict"]).to_pylist() if path.exists() else []


def _of_pair(table: pa.Table, pair: Pair) -> dict[str, Any]:
    """The first row of the sample, {} where the table does not name it."""
    here = pc.and_(pc.equal(table["shard"], pair[0]), pc.equal(table["key"], pair[1]))
    return next(iter(table.filter(here).to_pylist()), {})
