"""A dataset in, suspects out: the whole job, and its stages one by one."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from clipscan.cli.options import (
    Against,
    Backend,
    BatchSize,
    Compile,
    Device,
    Devices,
    Format,
    Fraction,
    Graph,
    ImageKey,
    K,
    LogJson,
    Method,
    Model,
    Out,
    Overwrite,
    Precision,
    Pretrained,
    Quoting,
    Reference,
    Root,
    Run,
    Seed,
    Source,
    TextKey,
    Threads,
    TrustedModel,
    TrustedPretrained,
    Workers,
    shown,
)


def scan(
    source: Source,
    out: Out,
    model: Model = None,
    pretrained: Pretrained = None,
    trusted_model: TrustedModel = None,
    trusted_pretrained: TrustedPretrained = None,
    method: Method = "consensus",
    k: K = 16,
    reference: Reference = "1024x8",
    against: Against = "image",
    fraction: Fraction = None,
    graph: Graph = "auto",
    seed: Seed = 0,
    format: Format = "auto",
    image_key: ImageKey = None,
    text_key: TextKey = None,
    root: Root = None,
    quoting: Quoting = "csv",
    device: Device = "auto",
    precision: Precision = "auto",
    compile: Compile = False,
    batch_size: BatchSize = 256,
    workers: Workers = None,
    backend: Backend = "auto",
    devices: Devices = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    log_json: LogJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be read, do nothing")] = False,
) -> None:
    """Dataset in; ranked suspects, groups of near-copies, drop lists and a page out."""
    if dry_run:
        _dry_run(
            source, format=format, image_key=image_key, text_key=text_key, roots=root or (), quoting=quoting
        )
        return
    from clipscan.pipeline import scan as run_scan
    from clipscan.report.summary import summary

    done = run_scan(
        source, out=out, model=model, pretrained=pretrained, trusted_model=trusted_model,
        trusted_pretrained=trusted_pretrained, k=k, method=method, reference=reference, against=against,
        fraction=fraction, graph=graph, seed=seed, format=format, image_key=image_key,
        text_key=text_key, roots=root or (), quoting=quoting, device=device,
        precision=precision, compile=compile, batch_size=batch_size,
        workers=workers, backend=backend, devices=devices, threads=threads, overwrite=overwrite,
        progress=shown(log_json),
    )  # fmt: skip
    print("\n".join(summary(done.out)))


def embed(
    source: Source,
    out: Out,
    model: Model = None,
    pretrained: Pretrained = None,
    trusted_model: TrustedModel = None,
    trusted_pretrained: TrustedPretrained = None,
    format: Format = "auto",
    image_key: ImageKey = None,
    text_key: TextKey = None,
    root: Root = None,
    quoting: Quoting = "csv",
    device: Device = "auto",
    precision: Precision = "auto",
    compile: Compile = False,
    batch_size: BatchSize = 256,
    workers: Workers = None,
    overwrite: Overwrite = False,
    log_json: LogJson = False,
) -> None:
    """Only the first stage: vectors of pictures and captions, in clip-retrieval's layout."""
    from clipscan import pipeline
    from clipscan.report.summary import summary

    run, _ = pipeline.embed(
        source, out=out, model=model, pretrained=pretrained,
        trusted_model=trusted_model, trusted_pretrained=trusted_pretrained,
        format=format, image_key=image_key, text_key=text_key, roots=root or (), quoting=quoting,
        device=device, precision=precision, compile=compile, batch_size=batch_size, workers=workers,
        overwrite=overwrite, progress=shown(log_json),
    )  # fmt: skip
    print("\n".join(summary(run.path)))


def knn(
    run: Run,
    k: K = 16,
    backend: Backend = "auto",
    devices: Devices = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    log_json: LogJson = False,
) -> None:
    """The exact neighbour graph of an embedded run, into RUN/neighbors."""
    from clipscan import pipeline
    from clipscan.report.summary import summary
    from clipscan.run import RunFolder, Settings, graph_stage

    folder = RunFolder(run)
    with folder.lock():
        graph_stage(
            folder,
            pipeline.reopen(folder),
            Settings(k=k, graph="yes", backend=backend, devices=devices, threads=threads),
            shown(log_json),
            overwrite,
        )
    print("\n".join(summary(run)))


def score(
    run: Run,
    method: Method = "consensus",
    k: K = 16,
    reference: Reference = "1024x8",
    against: Against = "image",
    fraction: Fraction = None,
    graph: Graph = "auto",
    seed: Seed = 0,
    backend: Backend = "auto",
    devices: Devices = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    log_json: LogJson = False,
) -> None:
    """Everything after the vectors: graph, scores, suspects, lists and the page of an embedded run."""
    from clipscan import pipeline
    from clipscan.report.summary import summary
    from clipscan.run import RunFolder, Settings

    folder = RunFolder(run)
    settings = Settings(method, k, reference, against, seed, graph, backend, devices, threads)
    pipeline.finish(folder, pipeline.reopen(folder), settings, fraction, overwrite, shown(log_json))
    print("\n".join(summary(run)))


def _dry_run(source: str, **how: Any) -> None:
    from clipscan.data import Bad, open_dataset

    dataset = open_dataset(source, **how)
    print(dataset.describe())
    for one in islice(dataset.read(dataset.shards[0]), 3):
        print(
            f"bad   {one.shard} {one.key}: {one.reason}"
            if isinstance(one, Bad)
            else f"ok    {one.shard} {one.key}: {one.caption[:80]!r}"
        )
