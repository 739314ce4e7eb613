"""Stage 4: ranks, suspects with their reasons and neighbours, groups: the tables that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from clipscan.engine import Neighbors, as_rows, search
from clipscan.engine.arrays import Array
from clipscan.run.columns import described
from clipscan.run.file_io import write_table
from clipscan.run.graph import has_graph
from clipscan.run.grouping import MEMBER, ConvictedRows, FoundGroups, find_groups, group_table
from clipscan.run.options import Ranking
from clipscan.run.run_folder import fingerprint
from clipscan.run.why_suspected import why, why_else
from clipscan.scores.estimate import Estimate, estimate_of
from clipscan.scores.result import count_of

if TYPE_CHECKING:
    from clipscan.run.run import Run

SHOWN_NEIGHBORS = 8  # of each suspect that the page shows
WITH_NEIGHBORS = 100  # suspects whose neighbours are looked up in the whole set
SUSPECTED = 0.01  # share of the samples, by default

NEIGHBOR = pa.struct([*MEMBER, ("distance", pa.float32())])


def select_stage(run: Run, ranking: Ranking, overwrite: bool = False) -> None:
    """suspects.parquet and groups.parquet, and in run.json the estimate of how many to drop.

    Suspects are the top `fraction`; None: the top SUSPECTED, or more where the estimate reaches further.
    """
    fraction = ranking.fraction
    asked = {"fraction": fraction, "graph": has_graph(run)} | ranking.recorded()
    run.ask("select", asked, overwrite)
    run.update(score={"fraction": fraction})

    def work() -> dict[str, Any]:
        names = run.names("shard", "key", "uid", "url", "caption", "at").combine_chunks()
        scores = run.scores
        method = run.record["score"]["method"]
        apart = estimate_of(method, scores[method].to_numpy())
        count = suspected(names.num_rows, apart) if fraction is None else count_of(fraction, names.num_rows)
        ranks = ranks_of(scores)
        order = np.argsort(ranks[method], kind="stable")
        rows = order[:count]
        found = find_groups(run, rows, apart.number, ranks, _convicted(run, scores, order))
        groups = group_table(names, found)
        suspects = suspect_table(run, names, rows, scores, ranks, found)
        write_table(run / "suspects.parquet", described("suspects.parquet", suspects))
        write_table(run / "groups.parquet", described("groups.parquet", groups))
        near = groups.num_rows - found.suspected
        return {"suspects": len(rows), "groups": near, "estimate": apart.record()}

    made_of = fingerprint(asked, run.record["asked"]["score"], *map(run.contents, ("graph", "score")))
    marker = run.task("select-00000", made_of, work)
    run.update(counts={name: marker[name] for name in ("suspects", "groups")}, estimate=marker["estimate"])


def _convicted(run: Run, scores: pa.Table, order: Array) -> list[ConvictedRows]:
    """Each population that consensus convicted, where it is what ranks; `order`: all rows, the most
    suspicious first. A row in several is one of the first."""
    asked = run.record["score"]
    if asked["method"] != "consensus":
        return []
    label = scores["population"].to_numpy()[order]
    return [
        ConvictedRows(number, one["kind"], rows)
        for number, one in enumerate(asked["populations"])
        if len(rows := order[label == number])
    ]


def suspected(n: int, apart: Estimate) -> int:
    """How many of n samples are suspects by default."""
    return max(count_of(SUSPECTED, n), apart.most)


def suspect_table(
    run: Run, names: pa.Table, rows: Array, scores: pa.Table, ranks: dict[str, Array], groups: FoundGroups
) -> pa.Table:
    """The suspects `rows`, most suspicious first, with all that is known of them."""
    columns = {c: scores[c].to_numpy() for c in scores.column_names if pa.types.is_float64(scores[c].type)}
    method = run.record["score"]["method"]
    table = names.take(pa.array(rows))
    table = table.add_column(0, "rank", pa.array(np.arange(1, len(rows) + 1)))
    table = table.append_column("score", pa.array(columns[method][rows]))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values[rows]))
    for name, places in ranks.items():
        table = table.append_column(f"{name}_rank", pa.array(places[rows]))
    copies_of, alike_to = groups.numbers(rows)
    table = table.append_column("group", pa.array(copies_of))
    table = table.append_column("alike", pa.array(alike_to))
    typical = {name: float(np.median(values)) for name, values in columns.items()}
    asked = run.record["score"]
    reasons = [
        why(
            row, typical, names.num_rows, asked, groups.copies_of(row["group"], names),
            len(groups.members[row["alike"]]) if row["alike"] >= 0 else 0,
            0 <= row["alike"] < len(groups.convicted),
        ) or why_else(method)
        for row in table.to_pylist()
    ]  # fmt: skip
    table = table.append_column("why", pa.array(reasons, pa.string()))
    return table.append_column("neighbors", pa.array(_neighbors(run, names, rows), pa.list_(NEIGHBOR)))


def ranks_of(scores: pa.Table) -> dict[str, Array]:
    """The rank of every row by every score; spreads are none."""
    return {
        name: rank(scores[name].to_numpy())
        for name in scores.column_names
        if pa.types.is_float64(scores[name].type) and not name.endswith("_spread")
    }


def rank(values: Array) -> Array:
    """1 for the highest; equal values share the best of their places, NaN comes last."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    place = np.maximum.accumulate(np.where(fresh, np.arange(1, len(values) + 1), 0))
    out = np.empty(len(values), np.int64)
    out[order] = place
    return out


def nearest(run: Run, rows: Array, count: int = SHOWN_NEIGHBORS) -> Neighbors:
    """The nearest samples in the whole set of a few rows, themselves left out."""
    image = run.vectors.image
    queries = as_rows(image.take(rows), "image embeddings")
    own = np.arange(image.n, dtype=np.int64)
    return search(queries, image, min(count, image.n), rows.astype(np.int64), own)


def _neighbors(run: Run, names: pa.Table, rows: Array) -> list[list[dict[str, Any]]]:
    table = nearest(run, rows[:WITH_NEIGHBORS])
    found = [
        [
            names.slice(int(j), 1).select(MEMBER.names).to_pylist()[0] | {"distance": float(distance)}
            for distance, j in zip(distances, index, strict=True)
            if j >= 0
        ]
        for distances, index in zip(table.distance, table.index, strict=True)
    ]
    return found + [[] for _ in rows[WITH_NEIGHBORS:]]
