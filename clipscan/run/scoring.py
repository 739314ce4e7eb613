"""Stages 2 and 3: the exact graph over the whole set, and the scores, a shard at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data import Dataset
from clipscan.engine import Neighbors, Rows, check_rows, choose, cores, search
from clipscan.errors import InputError, RunError
from clipscan.run.columns import described
from clipscan.run.embedding import shard_rows, untrained, vectors
from clipscan.run.files import write_array, write_table
from clipscan.run.folder import RunFolder, fingerprint
from clipscan.run.listing import Listing
from clipscan.run.outputs import sound
from clipscan.run.progress import Progress
from clipscan.run.trusted import read_trusted, trusted_model
from clipscan.scores import METHODS, NEED_TEXT, Panel
from clipscan.scores.copies import remark
from clipscan.scores.hubs import anti_hubs
from clipscan.scores.local import Engine
from clipscan.scores.populations import populated
from clipscan.scores.references import Scale, check_seed, identify_pairs, parse_scales
from clipscan.scores.scorer import together
from clipscan.scores.table import ELSEWHERE, SCORES

AT_ONCE_ROWS = 1_000_000  # above this the graph is searched, and saved, a shard at a time
GRAPH_ROWS = 1_000_000  # the graph is quadratic: at this size minutes on two cores, at ten times it hours
VECTORS = (
    "embeddings/img_emb", "embeddings/text_emb", "embeddings/untrained", "embeddings/metadata"
)  # fmt: skip
ON_GPU = (
    10  # times as many, in either case: reckoned from the kernels' arithmetic, no GPU has measured it yet
)


class Settings(NamedTuple):
    """What the scores are asked to be. `method` ranks; all others that cost little are computed beside it."""

    method: str = "consensus"
    k: int = 16
    reference: str = "1024x8"
    against: str = "image"
    seed: int = 0
    graph: str = "auto"  # auto | yes | no
    backend: str = "auto"
    devices: str = "auto"
    threads: int | None = None
    max_memory: int | None = None

    def recorded(self) -> dict[str, Any]:
        """What decides the values; threads and memory do not."""
        return {name: getattr(self, name) for name in ("method", "k", "reference", "against", "seed")}

    def check(self) -> list[Scale]:
        """The scales; InputError for what no run could serve, before anything is computed."""
        if self.method not in (known := (*METHODS, *ELSEWHERE)):
            raise InputError(f"no score {self.method!r}; there are: {', '.join(known)}")
        if self.k < 1:
            raise InputError(f"k must be at least 1, got k={self.k}")
        if self.graph not in ("auto", "yes", "no"):
            raise InputError(f"graph={self.graph!r} must be auto, yes or no")
        if self.against not in ("image", "image+text"):
            raise InputError(f"against={self.against!r} must be 'image' or 'image+text'")
        check_seed(self.seed)
        choose(self.backend, self.k, 1, self.devices)  # raises where it cannot serve
        return parse_scales(self.reference)


def graph_stage(
    run: RunFolder, dataset: Dataset | None, settings: Settings, progress: Progress, overwrite: bool = False
) -> None:
    """The exact graph, a table a shard; where it is not wanted or too large for "auto", run.json says why."""
    image, _, counts = vectors(run, dataset, deep=False)
    if settings.graph == "yes" and settings.k >= image.n:
        raise InputError(f"k={settings.k} needs more than {image.n} samples")
    if reason := _no_graph(settings, image.n):
        run.update(graph={"skipped": reason})
        progress.note(f"graph: {reason}")
        return
    asked = {"k": settings.k, "embed": _embedding(run)}
    run.ask("graph", asked, overwrite)
    run.update(graph={"k": settings.k, "skipped": None})
    progress.stage("graph", "rows")

    table = _tables(run, dataset, settings)
    made_of = fingerprint(asked, run.contents("embed", "embeddings/img_emb"))
    start = 0
    for shard, count in enumerate(counts):
        stop = start + count

        def work(shard: int = shard, start: int = start, stop: int = stop) -> dict[str, Any]:
            part = table(start, stop)
            write_array(run.distance(shard), part.distance)
            write_array(run.index(shard), part.index)
            return {"rows": stop - start, "backend": part.backend}

        if count:
            run.task(f"graph-{shard:05d}", made_of, work)
        start = stop
        progress.advance(stop, stop / image.n)


def _tables(run: RunFolder, dataset: Dataset | None, settings: Settings) -> Callable[[int, int], Neighbors]:
    """A function (start, stop) -> the graph's table of these rows. Both ways give the same table: all rows at
    once take half the work, slices lose less when a long search is killed."""
    how: dict[str, Any] = {
        "backend": settings.backend, "devices": settings.devices, "threads": settings.threads,
        "max_memory": settings.max_memory,
    }  # fmt: skip

    @cache
    def looked_through() -> Rows:  # on the first call: a finished graph reads no vectors
        image, _, _ = vectors(run, dataset)
        check_rows(image, settings.threads)
        return image

    @cache
    def whole() -> Neighbors | None:
        image = looked_through()
        at_once = image.n <= AT_ONCE_ROWS * _speed(settings)
        return search(image, None, settings.k, **how) if at_once else None

    def table(start: int, stop: int) -> Neighbors:
        image = looked_through()
        if (found := whole()) is not None:
            return Neighbors(found.distance[start:stop], found.index[start:stop], found.backend)
        own = np.arange(image.n, dtype=np.int64)
        return search(image.slice(start, stop), image, settings.k, own[start:stop], own, **how)

    return table


def has_graph(run: RunFolder) -> bool:
    """Whether the graph of a run is finished."""
    return all(run.index(shard).exists() and run.distance(shard).exists() for shard in _filled(run))


def load_graph(run: RunFolder) -> Neighbors | None:
    """The finished graph of a run, None where it has none."""
    sound(*(path for shard in _filled(run) for path in (run.distance(shard), run.index(shard))))
    if not has_graph(run):
        return None

    def load(path: Path) -> Any:
        return np.load(path, allow_pickle=False)

    tables = [Neighbors(load(run.distance(shard)), load(run.index(shard))) for shard in _filled(run)]
    return Neighbors.concatenate(tables)


def _filled(run: RunFolder) -> list[int]:
    """The shards that hold any sample; the others have no tables."""
    return [shard for shard, count in enumerate(shard_rows(run)) if count]


def score_stage(
    run: RunFolder, dataset: Dataset | None, settings: Settings, progress: Progress, overwrite: bool = False
) -> None:
    """All local and pair scores of every sample, one table a shard. Draws are of what the vectors are:
    the same vectors have the same scores under any names."""
    scales = settings.check()
    image, text, counts = vectors(run, dataset, deep=False)
    methods = [
        m for m in METHODS if (SCORES[m].unasked or settings.method == m) and (text or m not in NEED_TEXT)
    ]
    beside = [name for name, there in _beside(run, settings).items() if there]
    if settings.method in ELSEWHERE and settings.method not in beside:
        missing = SCORES[settings.method].missing
        raise InputError(f"{run.path} cannot be ranked by {settings.method!r}: {missing}")
    if settings.method not in (*methods, *beside):
        raise InputError(
            f"{settings.method!r} compares pictures with captions, and {run.path} has no caption vectors"
        )
    if settings.against == "image+text" and text is None:
        raise InputError(f"against={settings.against!r}: {run.path} has no caption vectors")
    column = ranking_column(settings, scales)
    if any(settings.k >= (scale.rows if scale.fits(image.n) else image.n) for scale in scales):
        raise InputError(
            f"k={settings.k} needs more than k reference rows: "
            f"{image.n} samples, reference {settings.reference}"
        )
    asked = settings.recorded() | {"embed": _embedding(run)} | _beside(run, settings)
    run.ask("score", asked, overwrite)
    run.update(score=settings.recorded() | {"method": column, "normalized": False, "metric": "euclidean"})
    run.update(score={"trusted": trusted_model(run)})

    progress.stage("score", "rows")
    shards = [shard for shard, count in enumerate(counts) if count]
    made_of = fingerprint(
        asked, run.contents("embed", *VECTORS), *(run.contents(beside) for beside in ("trusted", "graph"))
    )
    if not all(run.finished(f"score-{shard:05d}", made_of) for shard in shards):
        image, text, _ = vectors(run, dataset)
        threads = settings.threads or cores()
        graph = load_graph(run)
        panel = Panel(
            image, text, identify_pairs(image, text, threads), methods, scales,
            Engine(settings.k, settings.backend, settings.devices, threads, settings.max_memory),
            settings.against == "image+text", settings.seed, pictures=untrained(run),
            graph=graph if graph and graph.k == settings.k else None,
        )  # fmt: skip
        if said := remark(panel.most_copies, settings.k):
            progress.note(f"copies: {said}")
        extra = {"hubs": anti_hubs(graph)} if graph and "hubs" in beside else {}
        extra |= {"trusted": read_trusted(run)} if "trusted" in beside else {}
        columns_of, belongs = together(panel.columns, counts), populated(panel.populations, image.n)
    start = 0
    told: dict[str, Any] = {"copies": 0, "populations": []}
    for shard, count in enumerate(counts):
        stop = start + count

        def work(shard: int = shard, start: int = start, stop: int = stop) -> dict[str, Any]:
            columns, spread = columns_of(start, stop)
            spread = {f"{name}_spread": value for name, value in spread.items() if value.any()}
            table = pq.read_table(run.metadata(shard), columns=["shard", "key"])
            columns |= {name: column[start:stop] for name, column in extra.items()}
            table = table.append_column("population", pa.array(belongs[start:stop], pa.int64()))
            for name, values in (columns | spread).items():
                table = table.append_column(name, pa.array(values, pa.float64()))
            write_table(run.scores(shard), described("scores/scores_*.parquet", table))
            found = [one.record() for one in panel.populations]
            return {"rows": stop - start, "copies": panel.most_copies, "populations": found}

        if count:
            marker = run.task(f"score-{shard:05d}", made_of, work)
            told = {name: marker[name] for name in told}
        start = stop
        progress.advance(stop, stop / image.n)
    run.update(score=told)


def ranking_column(settings: Settings, scales: list[Scale]) -> str:
    """The column that ranks: the method at the first scale."""
    plain = len(scales) == 1 or not SCORES[settings.method].drawn
    return settings.method if plain else f"{settings.method}@{scales[0].name}"


def _beside(run: RunFolder, settings: Settings) -> dict[str, Any]:
    """The columns that no Scorer makes, and whether the run has them: hubs, of the graph, and trusted."""
    graph = run.record.get("asked", {}).get("graph", {})
    return {"hubs": graph.get("k") == settings.k and has_graph(run), "trusted": trusted_model(run)}


def read_scores(run: RunFolder) -> pa.Table:
    """All scores, in the order of the vectors."""
    paths = [run.scores(shard) for shard in _filled(run)]
    sound(*paths)
    if not all(path.exists() for path in paths):
        raise RunError(f"{run.path} is not scored to its end; run: clipscan score {run.path}")
    # A shard in which all draws of a score agree has no spread column.
    return pa.concat_tables([pq.read_table(path) for path in paths], promote_options="default")


def _no_graph(settings: Settings, n: int) -> str:
    if settings.graph == "no":
        return "not asked for"
    if settings.graph == "auto" and n > GRAPH_ROWS and n > (most := GRAPH_ROWS * _speed(settings)):
        return (
            f"{n:,} samples: the exact graph over more than {most:,} takes long here; "
            "only exact copies are grouped. --graph yes computes it all the same"
        )
    return f"k={settings.k} needs more than {n} samples" if settings.k >= n else ""


def _speed(settings: Settings) -> int:
    """How many times the rows of a CPU the search may take on."""
    return 1 if choose(settings.backend, settings.k, 1, settings.devices)[0] == "cpu" else ON_GPU


def _embedding(run: RunFolder) -> str:
    """Ties later results to the very vectors they were made from."""
    return fingerprint(run.record.get("asked", {}).get("embed"), shard_rows(run), Listing(run).contents())
