"""Stage 4: ranks, suspects with their reasons and neighbours, groups. What a person will read."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from clipscan.data import Dataset
from clipscan.engine import Neighbors, as_rows, search
from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.run.embedding import metadata, vectors
from clipscan.run.files import write_table
from clipscan.run.folder import RunFolder, fingerprint
from clipscan.run.scoring import Settings, has_graph, load_graph, read_scores
from clipscan.run.words import why
from clipscan.scores.groups import Groups, caption_agreement, copies, near_copies
from clipscan.scores.references import identify
from clipscan.scores.result import count_of

SHOWN_NEIGHBORS = 8  # of each suspect that the page shows
WITH_NEIGHBORS = 100  # suspects whose neighbours are looked up in the whole set
LISTED_MEMBERS = 1000  # of a group, in groups.parquet; its size is the true size

MEMBER = pa.struct(
    [("shard", pa.string()), ("key", pa.string()), ("caption", pa.string()), ("at", pa.int64())]
)
NEIGHBOR = pa.struct([*MEMBER, ("distance", pa.float32())])


def select_stage(
    run: RunFolder, dataset: Dataset | None, settings: Settings, fraction: float, overwrite: bool = False
) -> None:
    """suspects.parquet (the top `fraction`) and groups.parquet."""
    if not 0 < fraction <= 1:
        raise InputError(f"fraction={fraction} must be a share of the samples, above 0 and at most 1")
    asked = {"fraction": fraction, "graph": has_graph(run)} | settings.recorded()
    run.ask("select", asked, overwrite)
    run.update(score={"fraction": fraction})

    def work() -> dict[str, Any]:
        names = metadata(run, ["shard", "key", "uid", "url", "caption", "at"]).combine_chunks()
        found = find_groups(run, dataset)
        groups = group_table(run, dataset, names, found)
        count = count_of(fraction, names.num_rows)
        suspects = suspect_table(run, dataset, names, count, found, groups["distinct_captions"].to_pylist())
        write_table(run / "suspects.parquet", suspects)
        write_table(run / "groups.parquet", groups)
        return {"suspects": suspects.num_rows, "groups": groups.num_rows}

    marker = run.task("select-00000", fingerprint(asked, run.record["asked"]["score"]), work)
    run.update(counts={name: marker[name] for name in ("suspects", "groups")})


def suspect_table(
    run: RunFolder, dataset: Dataset | None, names: pa.Table, count: int, groups: Groups, captions: list[int]
) -> pa.Table:
    """The `count` most suspicious samples, most suspicious first; ties by row. `captions`: of each group."""
    scores = read_scores(run)
    columns = {c: scores[c].to_numpy() for c in scores.column_names if pa.types.is_float64(scores[c].type)}
    ranks = {c: rank(values) for c, values in columns.items() if not c.endswith("_spread")}
    method = run.record["score"]["method"]
    rows = np.argsort(ranks[method], kind="stable")[:count]

    table = names.take(pa.array(rows))
    table = table.add_column(0, "rank", pa.array(np.arange(1, len(rows) + 1)))
    table = table.append_column("score", pa.array(columns[method][rows]))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values[rows]))
    for name, values in ranks.items():
        table = table.append_column(f"{name}_rank", pa.array(values[rows]))
    label = groups.label[rows]
    table = table.append_column("group", pa.array(label))
    copies_of = [(int(groups.size[g]), captions[g]) if g >= 0 else None for g in label]
    typical = {name: float(np.median(values)) for name, values in columns.items()}
    asked = run.record["score"]
    reasons = [
        why(row, typical, names.num_rows, asked, group)
        for row, group in zip(table.to_pylist(), copies_of, strict=True)
    ]
    table = table.append_column("why", pa.array(reasons, pa.string()))
    return table.append_column(
        "neighbors", pa.array(_neighbors(run, dataset, names, rows), pa.list_(NEIGHBOR))
    )


def rank(values: Array) -> Array:
    """1 for the highest; equal values share the best of their places, NaN comes last."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    fresh = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    place = np.maximum.accumulate(np.where(fresh, np.arange(1, len(values) + 1), 0))
    out = np.empty(len(values), np.int64)
    out[order] = place
    return out


def find_groups(run: RunFolder, dataset: Dataset | None) -> Groups:
    """Near-copies from the graph, largest first; without a graph, exact copies."""
    graph = load_graph(run)
    return near_copies(graph) if graph is not None else copies(identify(vectors(run, dataset)[0]).group)


def group_table(run: RunFolder, dataset: Dataset | None, names: pa.Table, groups: Groups) -> pa.Table:
    """groups.parquet: each group's size, captions and members."""
    _, text, _ = vectors(run, dataset)
    members = _members(groups)
    shown = [names.take(pa.array(rows[:LISTED_MEMBERS])).select(MEMBER.names).to_pylist() for rows in members]
    captions = [Counter(names["caption"].take(pa.array(rows)).to_pylist()) for rows in members]
    agreement = [caption_agreement(text.take(rows)) if text else math.nan for rows in members]
    return pa.table(
        {
            "group": pa.array(range(len(members)), pa.int64()),
            "size": pa.array(groups.size, pa.int64()),
            "distance_bound": pa.array([groups.bound] * len(members), pa.float64()),
            "caption_agreement": pa.array(agreement, pa.float64()),
            "distinct_captions": pa.array([len(c) for c in captions], pa.int64()),
            "top_caption": pa.array([_commonest(c) for c in captions], pa.string()),
            "members": pa.array(shown, pa.list_(MEMBER)),
        }
    )


def nearest(run: RunFolder, dataset: Dataset | None, rows: Array, count: int = SHOWN_NEIGHBORS) -> Neighbors:
    """The nearest samples in the whole set of a few rows, themselves left out."""
    image, _, _ = vectors(run, dataset)
    queries = as_rows(image.take(rows), "image embeddings")
    own = np.arange(image.n, dtype=np.int64)
    return search(queries, image, min(count, image.n), rows.astype(np.int64), own)


def _neighbors(
    run: RunFolder, dataset: Dataset | None, names: pa.Table, rows: Array
) -> list[list[dict[str, Any]]]:
    table = nearest(run, dataset, rows[:WITH_NEIGHBORS])
    found = [
        [
            names.slice(int(j), 1).select(MEMBER.names).to_pylist()[0] | {"distance": float(distance)}
            for distance, j in zip(distances, index, strict=True)
            if j >= 0
        ]
        for distances, index in zip(table.distance, table.index, strict=True)
    ]
    return found + [[] for _ in rows[WITH_NEIGHBORS:]]


def _members(groups: Groups) -> list[Array]:
    """Row numbers of each group, ascending."""
    rows = np.flatnonzero(groups.label >= 0)
    rows = rows[np.argsort(groups.label[rows], kind="stable")]
    return np.split(rows, np.cumsum(groups.size)[:-1]) if len(groups.size) else []


def _commonest(captions: Counter[str]) -> str:
    return min(captions, key=lambda caption: (-captions[caption], caption)) if captions else ""
