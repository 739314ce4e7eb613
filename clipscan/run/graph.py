"""Stage 2: the exact neighbour graph over the whole set, a table a shard."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipscan.engine import Neighbors, Rows, check_rows, search
from clipscan.errors import InputError
from clipscan.run.file_io import write_array
from clipscan.run.listing import Listing
from clipscan.run.markers import check_intact
from clipscan.run.options import Compute, Ranking
from clipscan.run.progress import Progress
from clipscan.run.run_folder import RunFolder, fingerprint
from clipscan.run.vectors import filled_shards, shard_rows

if TYPE_CHECKING:
    from clipscan.run.run import Run

AT_ONCE_ROWS = 1_000_000  # above this the graph is searched, and saved, a shard at a time
GRAPH_ROWS = 1_000_000  # the graph is quadratic: at this size minutes on two cores, at ten times it hours
ON_GPU = (
    10  # times as many, in either case: reckoned from the kernels' arithmetic, no GPU has measured it yet
)


def graph_stage(
    run: Run, ranking: Ranking, compute: Compute, progress: Progress, overwrite: bool = False
) -> None:
    """The exact graph, a table a shard; where it is not wanted or too large for "auto", run.json says why."""
    k, n = ranking.k, run.mapped.image.n
    if ranking.graph == "yes" and k >= n:
        raise InputError(f"k={k} needs more than {n} samples")
    if reason := _no_graph(ranking, compute, n):
        run.update(graph={"skipped": reason})
        progress.note(f"graph: {reason}")
        return
    counts = run.mapped.counts
    asked = {"k": k, "embed": embedding_of(run)}
    run.ask("graph", asked, overwrite)
    run.update(graph={"k": k, "skipped": None})
    progress.stage("graph", "rows")

    table = _tables(run, k, compute)
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
        progress.advance(stop, stop / n)


def _tables(run: Run, k: int, compute: Compute) -> Callable[[int, int], Neighbors]:
    """A function (start, stop) -> the graph's table of these rows. Both ways give the same table: all rows at
    once take half the work, slices lose less when a long search is killed."""
    how = vars(compute)

    @cache
    def looked_through() -> Rows:  # on the first call: a finished graph reads no vectors
        image = run.vectors.image
        check_rows(image, compute.threads)
        return image

    @cache
    def whole() -> Neighbors | None:
        image = looked_through()
        at_once = image.n <= AT_ONCE_ROWS * _speed(k, compute)
        return search(image, None, k, **how) if at_once else None

    def table(start: int, stop: int) -> Neighbors:
        image = looked_through()
        if (found := whole()) is not None:
            return Neighbors(found.distance[start:stop], found.index[start:stop], found.backend)
        own = np.arange(image.n, dtype=np.int64)
        return search(image.slice(start, stop), image, k, own[start:stop], own, **how)

    return table


def has_graph(run: RunFolder) -> bool:
    """Whether the graph of a run is finished."""
    return all(run.index(shard).exists() and run.distance(shard).exists() for shard in filled_shards(run))


def read_graph(run: RunFolder) -> Neighbors | None:
    """The finished graph of a run, None where it has none."""
    shards = filled_shards(run)
    check_intact(*(path for shard in shards for path in (run.distance(shard), run.index(shard))))
    if not has_graph(run):
        return None

    def load(path: Path) -> Any:
        return np.load(path, allow_pickle=False)

    return Neighbors.concatenate([Neighbors(load(run.distance(one)), load(run.index(one))) for one in shards])


def embedding_of(run: RunFolder) -> str:
    """Digest of the vectors, which ties later results to them."""
    return fingerprint(run.record.get("asked", {}).get("embed"), shard_rows(run), Listing(run).contents())


def _no_graph(ranking: Ranking, compute: Compute, n: int) -> str:
    if ranking.graph == "no":
        return "not asked for"
    if ranking.graph == "auto" and n > GRAPH_ROWS and n > (most := GRAPH_ROWS * _speed(ranking.k, compute)):
        return (
            f"{n:,} samples: the exact graph over more than {most:,} takes long here; "
            "only exact copies are grouped. --graph yes computes it all the same"
        )
    return f"k={ranking.k} needs more than {n} samples" if ranking.k >= n else ""


def _speed(k: int, compute: Compute) -> int:
    """How many times the rows of a CPU the search may take on."""
    return 1 if compute.chosen(k) == "cpu" else ON_GPU
