"""A dataset in, suspects out: the whole job, and its stages one by one."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from clipscan.cli.option_groups import grouped
from clipscan.cli.options import K, LogJson, Out, Overwrite, RunPath, Source, shown
from clipscan.run.options import Compute, Encoding, Models, Ranking, Reading


@grouped
def scan(
    source: Source,
    out: Out,
    models: Models,
    ranking: Ranking,
    reading: Reading,
    encoding: Encoding,
    compute: Compute,
    overwrite: Overwrite = False,
    log_json: LogJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be read, and stop")] = False,
) -> None:
    """Dataset in; ranked suspects, groups of near-copies, drop lists and a page out."""
    if dry_run:
        _dry_run(source, reading)
        return
    from clipscan import pipeline

    progress = shown(log_json)
    done = pipeline.scan_with(source, out, models, reading, encoding, ranking, compute, overwrite, progress)
    _sum_up(done.out)


@grouped
def embed(
    source: Source,
    out: Out,
    models: Models,
    reading: Reading,
    encoding: Encoding,
    overwrite: Overwrite = False,
    log_json: LogJson = False,
) -> None:
    """Only the first stage: vectors of pictures and captions, in clip-retrieval's layout."""
    from clipscan import pipeline

    pipeline.embed(source, out, models, reading, encoding, overwrite, shown(log_json))
    _sum_up(out)


@grouped
def knn(
    run: RunPath,
    k: K = Ranking.k,
    compute: Compute = Compute(),
    overwrite: Overwrite = False,
    log_json: LogJson = False,
) -> None:
    """The exact neighbour graph of an embedded run, into RUN/neighbors."""
    from clipscan import pipeline
    from clipscan.run import Run

    pipeline.knn(Run(run), Ranking(k=k, graph="yes"), compute, overwrite, shown(log_json))
    _sum_up(run)


@grouped
def score(
    run: RunPath,
    ranking: Ranking,
    compute: Compute,
    overwrite: Overwrite = False,
    log_json: LogJson = False,
) -> None:
    """Everything after the vectors: graph, scores, suspects, lists and the page of an embedded run."""
    from clipscan import pipeline
    from clipscan.run import Run

    pipeline.score(Run(run), ranking, compute, overwrite, shown(log_json))
    _sum_up(run)


def _sum_up(run: Path) -> None:
    from clipscan.report.summary import summary

    print("\n".join(summary(run)))


def _dry_run(source: str, reading: Reading) -> None:
    from clipscan.data import Bad

    dataset = reading.open(source)
    print(dataset.describe())
    for one in islice(dataset.read(dataset.shards[0]), 3):
        print(
            f"bad   {one.shard} {one.key}: {one.reason}"
            if isinstance(one, Bad)
            else f"ok    {one.shard} {one.key}: {one.caption[:80]!r}"
        )
