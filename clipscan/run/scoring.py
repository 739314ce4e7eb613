"""Stage 3: the scores of every sample, a table a shard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.engine import cores
from clipscan.engine.arrays import Array
from clipscan.errors import InputError, RunError
from clipscan.run.columns import described
from clipscan.run.file_io import write_table
from clipscan.run.graph import embedding_of, has_graph
from clipscan.run.markers import check_intact
from clipscan.run.options import Compute, Ranking
from clipscan.run.progress import Progress
from clipscan.run.run_folder import RunFolder, fingerprint
from clipscan.run.trusted import read_trusted, trusted_model
from clipscan.run.vectors import filled_shards
from clipscan.scores import METHODS, NEED_TEXT, AllScores
from clipscan.scores.copies import remark
from clipscan.scores.hubs import anti_hubs
from clipscan.scores.local import Searcher
from clipscan.scores.populations import populated
from clipscan.scores.references import identify_pairs
from clipscan.scores.renamed import RENAMED
from clipscan.scores.slices import together
from clipscan.scores.table import ELSEWHERE, SCORES

if TYPE_CHECKING:
    from clipscan.run.run import Run

VECTORS = (
    "embeddings/img_emb", "embeddings/text_emb", "embeddings/untrained", "embeddings/metadata"
)  # fmt: skip


def score_stage(
    run: Run, ranking: Ranking, compute: Compute, progress: Progress, overwrite: bool = False
) -> None:
    """All local and pair scores of every sample, one table a shard. Draws are of what the vectors are:
    the same vectors have the same scores under any names."""
    ranking.check(compute)
    beside = _beside(run, ranking)
    methods = [
        m for m in METHODS
        if (SCORES[m].unasked or ranking.method == m) and (run.mapped.text or m not in NEED_TEXT)
    ]  # fmt: skip
    there = [name for name, has in beside.items() if has]
    _refuse(run, ranking, methods, there)
    # Recorded as `hubs`, the name of `antihub` before: runs from then are not refused as other settings.
    asked = ranking.recorded() | {
        "embed": embedding_of(run), "hubs": beside["antihub"], "trusted": beside["trusted"]
    }  # fmt: skip
    run.ask("score", asked, overwrite)
    column = {"method": ranking_column(ranking), "normalized": False, "metric": "euclidean"}
    run.update(score=ranking.recorded() | column)
    run.update(score={"trusted": trusted_model(run)})

    progress.stage("score", "rows")
    counts = run.mapped.counts
    made_of = fingerprint(
        asked, run.contents("embed", *VECTORS), *(run.contents(stage) for stage in ("trusted", "graph")),
        *(name for name in there if name in RENAMED.values()),  # a column `hubs` is written anew
    )  # fmt: skip
    shards = [shard for shard, count in enumerate(counts) if count]
    made: _Made | None = None
    if not all(run.finished(f"score-{shard:05d}", made_of) for shard in shards):
        made = _make(run, ranking, compute, methods, there, progress)
    start = 0
    told: dict[str, Any] = {"copies": 0, "populations": []}
    for shard, count in enumerate(counts):
        stop = start + count

        def work(shard: int = shard, start: int = start, stop: int = stop) -> dict[str, Any]:
            assert made is not None
            table = pq.read_table(run.metadata(shard), columns=["shard", "key"])
            for name, values in made.columns(start, stop).items():
                table = table.append_column(name, values)
            write_table(run.scores_file(shard), described("scores/scores_*.parquet", table))
            return {"rows": stop - start} | made.told

        if count:
            marker = run.task(f"score-{shard:05d}", made_of, work)
            told = {name: marker[name] for name in told}
        start = stop
        progress.advance(stop, stop / sum(counts))
    run.update(score=told)


class _Made(NamedTuple):
    """The scores of all rows: a function (start, stop) -> columns of these rows; and their record in
    run.json."""

    columns: Callable[[int, int], dict[str, pa.Array]]
    told: dict[str, Any]


def _make(
    run: Run, ranking: Ranking, compute: Compute, methods: list[str], beside: list[str], progress: Progress
) -> _Made:
    image, text, counts = run.vectors
    threads = compute.threads or cores()
    graph = run.graph
    scorer = AllScores(
        image, text, identify_pairs(image, text, threads), methods, ranking.scales,
        Searcher(ranking.k, compute.backend, compute.devices, threads, compute.max_memory),
        ranking.against == "image+text", ranking.seed, pictures=run.untrained,
        graph=graph if graph and graph.k == ranking.k else None,
    )  # fmt: skip
    if said := remark(scorer.most_copies, ranking.k):
        progress.note(f"copies: {said}")
    extra: dict[str, Array] = {"antihub": anti_hubs(graph)} if graph and "antihub" in beside else {}
    extra |= {"trusted": read_trusted(run)} if "trusted" in beside else {}
    columns_of, belongs = together(scorer.columns, counts), populated(scorer.populations, image.n)
    populations = [one.record() for one in scorer.populations]

    def columns(start: int, stop: int) -> dict[str, pa.Array]:
        values, spread = columns_of(start, stop)
        values |= {name: column[start:stop] for name, column in extra.items()}
        values |= {f"{name}_spread": value for name, value in spread.items() if value.any()}
        return {
            "population": pa.array(belongs[start:stop], pa.int64()),
            **{name: pa.array(column, pa.float64()) for name, column in values.items()},
        }

    return _Made(columns, {"copies": scorer.most_copies, "populations": populations})


def _refuse(run: Run, ranking: Ranking, methods: list[str], beside: list[str]) -> None:
    """InputError for settings that this run cannot serve."""
    image, text, _ = run.mapped
    method = ranking.method
    if method in ELSEWHERE and method not in beside:
        raise InputError(f"{run.path} cannot be ranked by {method!r}: {SCORES[method].missing}")
    if method not in (*methods, *beside):
        raise InputError(f"{method!r} compares pictures with captions, and {run.path} has no caption vectors")
    if ranking.against == "image+text" and text is None:
        raise InputError(f"against={ranking.against!r}: {run.path} has no caption vectors")
    if any(ranking.k >= (one.rows if one.fits(image.n) else image.n) for one in ranking.scales):
        raise InputError(
            f"k={ranking.k} needs more than k reference rows: "
            f"{image.n} samples, reference {ranking.reference}"
        )


def ranking_column(ranking: Ranking) -> str:
    """The column that ranks: the method at the first scale."""
    scales = ranking.scales
    plain = len(scales) == 1 or not SCORES[ranking.method].drawn
    return ranking.method if plain else f"{ranking.method}@{scales[0].name}"


def _beside(run: RunFolder, ranking: Ranking) -> dict[str, Any]:
    """The columns that no Scorer makes, and whether the run has them: antihub, of the graph, and trusted."""
    graph = run.record.get("asked", {}).get("graph", {})
    return {"antihub": graph.get("k") == ranking.k and has_graph(run), "trusted": trusted_model(run)}


def read_scores(run: RunFolder) -> pa.Table:
    """All scores, in the order of the vectors."""
    paths = [run.scores_file(shard) for shard in filled_shards(run)]
    check_intact(*paths)
    if not all(path.exists() for path in paths):
        raise RunError(f"{run.path} is not scored to its end; run: clipscan score {run.path}")
    # A shard in which all draws of a score agree has no spread column.
    return pa.concat_tables([pq.read_table(path) for path in paths], promote_options="default")
