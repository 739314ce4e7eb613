"""The command `clipscan`. Options are named as in open_clip where it has them.

Exit codes: 0 done, 1 failed (the message names the file, the row and the remedy), 2 wrong use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clipscan.errors import ClipscanError, InputError
from clipscan.heads.commands import app as heads
from clipscan.lab.commands import app as lab
from clipscan.options import (
    BatchSize,
    Device,
    Format,
    ImageKey,
    LogJson,
    Model,
    Overwrite,
    Pretrained,
    TextKey,
    Workers,
    shown,
)

app = typer.Typer(
    help="Find the poisoned pairs in an image-text dataset before a CLIP model learns from them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(heads, name="heads")
app.add_typer(lab, name="lab")
bench = typer.Typer(no_args_is_help=True, help="Measure this machine: the search, the way into vectors.")
app.add_typer(bench, name="bench")

Run = Annotated[Path, typer.Argument(help="a run folder, made by scan or embed", show_default=False)]
Source = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="folder, tars ({000..331}.tar), table or embeddings", show_default=False
    ),
]
Out = Annotated[
    Path, typer.Option("--out", help="the run folder; called again it continues", show_default=False)
]
TrustedModel = Annotated[
    str | None,
    typer.Option(help="open_clip's name of a second model that has NOT seen this data: adds `trusted`"),
]
TrustedPretrained = Annotated[str | None, typer.Option(help="its tag, or a checkpoint file")]
Precision = Annotated[str, typer.Option(help="auto (bf16 on a GPU), fp32, bf16, fp16")]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="torch.compile the picture tower: slow to start; untried by us on a GPU"),
]
Threads = Annotated[int | None, typer.Option(help="search threads; default: all cores")]
Backend = Annotated[str, typer.Option(help="what searches: auto, cuda, triton, cpu (see clipscan doctor)")]
Devices = Annotated[str, typer.Option(help="GPUs that search: auto (all), cpu (none), or numbers: 0,1")]
K = Annotated[int, typer.Option("--k", help="neighbours")]
Method = Annotated[
    str,
    typer.Option(
        help="the score that ranks: consensus, kdist, lid, lof, slof, dao, logdao, iforest, cosine, agree, "
        "cross, hubs, trusted"
    ),
]
Reference = Annotated[
    str, typer.Option(help="MxR = R random draws of M rows, M, all; of several the first ranks")
]
Against = Annotated[str, typer.Option(help="image, or image+text: captions join the reference")]
Fraction = Annotated[
    float | None,
    typer.Option(
        help="share of the samples to suspect and drop",
        show_default="drop as many as stand apart, perhaps none",
    ),
]
Graph = Annotated[
    str, typer.Option(help="exact graph over the whole set, for groups of near-copies: auto, yes, no")
]
Seed = Annotated[int, typer.Option(help="of the random references")]


@app.command()
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
        _dry_run(source, format, image_key, text_key)
        return
    from clipscan.pipeline import scan as run_scan

    done = run_scan(
        source, out=out, model=model, pretrained=pretrained, trusted_model=trusted_model,
        trusted_pretrained=trusted_pretrained, k=k, method=method, reference=reference, against=against,
        fraction=fraction, graph=graph, seed=seed, format=format, image_key=image_key,
        text_key=text_key, device=device, precision=precision, compile=compile, batch_size=batch_size,
        workers=workers, backend=backend, devices=devices, threads=threads, overwrite=overwrite,
        progress=shown(log_json),
    )  # fmt: skip
    c = done.counts
    print(f"{c['listed']:,} listed = {c['embedded']:,} embedded + {c['bad']:,} bad (bad.parquet)")
    print(f"{c['suspects']:,} suspects, {c['groups']:,} groups of near-copies; {done.estimate.words()}")
    print(f"{c['dropped']:,} to drop, {c['kept']:,} to keep")
    print(f"look at {done.page}; then: clipscan apply {out} --to DIR")


@app.command()
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

    pipeline.embed(
        source, out=out, model=model, pretrained=pretrained,
        trusted_model=trusted_model, trusted_pretrained=trusted_pretrained,
        format=format, image_key=image_key, text_key=text_key,
        device=device, precision=precision, compile=compile, batch_size=batch_size, workers=workers,
        overwrite=overwrite, progress=shown(log_json),
    )  # fmt: skip


@app.command()
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


@app.command()
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
    from clipscan.run import RunFolder, Settings

    folder = RunFolder(run)
    settings = Settings(method, k, reference, against, seed, graph, backend, devices, threads)
    pipeline.finish(folder, pipeline.reopen(folder), settings, fraction, overwrite, shown(log_json))


@app.command()
def report(run: Run) -> None:
    """Write the page of a run anew: RUN/report/index.html."""
    from clipscan import pipeline
    from clipscan.report.page import write_page
    from clipscan.run import RunFolder

    print(write_page(run, pipeline.reopen(RunFolder(run))))


@app.command()
def invert(
    run: Run,
    group: Annotated[int | None, typer.Argument(help="its number in groups.parquet")] = None,
    caption: Annotated[str | None, typer.Option(help="instead of a group: any caption")] = None,
    model: Model = None,
    pretrained: Annotated[
        str | None, typer.Option(help="the run's checkpoint, where run.json does not say where it lies")
    ] = None,
    forms: Annotated[
        str, typer.Option(help="kinds of trigger to try, comma-separated")
    ] = "anywhere,fixed,faint,tint",
    controls: Annotated[int, typer.Option(help="harmless captions to compare with")] = 3,
    steps: Annotated[
        int, typer.Option(help="of the search, for each form and caption; up to twice that while it gains")
    ] = 200,
    batch_size: Annotated[int, typer.Option(help="pictures in a step")] = 64,
    seed: Annotated[int, typer.Option(help="of pictures, controls and starting points")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Recover the trigger of a suspect group: mask, pattern, success on held-out pictures, and controls.

    Harmless captions that occur about as often are recovered too: a pattern can be found for any caption,
    and what marks a backdoor is that its own takes far less of the picture. Into RUN/invert, and the page.
    """
    from clipscan import pipeline
    from clipscan.lab.invert import invert as recover
    from clipscan.lab.invert.search import Plan
    from clipscan.report.page import write_page
    from clipscan.run import RunFolder

    folder = RunFolder(run)
    dataset = pipeline.reopen(folder)
    with folder.lock():
        done = recover(
            folder, dataset, group, caption=caption, model=model, pretrained=pretrained, device=device,
            forms=[form.strip() for form in forms.split(",") if form.strip()], controls=controls,
            plan=Plan(steps, batch_size), seed=seed, overwrite=overwrite,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
        page = write_page(run, dataset) if (folder / "suspects.parquet").exists() else None
    print(f"{done.summary()} ({done.folder})")
    if page:
        print(f"look at {page}#triggers")


@app.command()
def status(run: Run) -> None:
    """How far a run has come."""
    from clipscan.run import status as run_status

    for stage in run_status(run):
        state = "not asked for" if not stage.total else f"{stage.done} of {stage.total} tasks"
        print(f"{stage.stage:<7} {state:<20} {stage.seconds:8.1f} s")


@app.command()
def explain(
    run: Run,
    key: Annotated[str, typer.Argument(help="a sample's key, or SHARD/KEY where the key occurs twice")],
) -> None:
    """All that is known of one sample: its scores, its ranks, its nearest neighbours."""
    from clipscan.pipeline import explain as run_explain

    print(run_explain(run, key))


@app.command()
def export(
    run: Run,
    fraction: Annotated[float | None, typer.Option(help="drop this share, most suspicious first")] = None,
    threshold: Annotated[float | None, typer.Option(help="drop every score above")] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="CSV, parquet or JSON lines: shard, key, decision")
    ] = None,
    apart: Annotated[bool, typer.Option("--apart", help="drop those that stand apart, perhaps none")] = False,
) -> None:
    """Write the lists anew by another rule: drop.parquet, keep.txt, drop.txt, keep_uids.npy."""
    from clipscan import pipeline
    from clipscan.run import RunFolder

    folder = RunFolder(run)
    with folder.lock():
        written = pipeline.export(
            folder, pipeline.reopen(folder),
            fraction=fraction, threshold=threshold, decisions=decisions, apart=apart,
        )  # fmt: skip
    print(f"{written.dropped:,} to drop, {written.kept:,} to keep: {run}/drop.parquet, keep.txt, drop.txt")


@app.command()
def calibrate(
    run: Run,
    trusted: Annotated[
        Path,
        typer.Argument(help="a run folder of pairs known to be clean, made by embed with the same model"),
    ],
    rate: Annotated[float, typer.Option(help="share of clean ones among those to drop, on average")] = 0.05,
    backend: Backend = "auto",
    devices: Devices = "auto",
    threads: Threads = None,
) -> None:
    """Which samples to drop at a stated rate of mistakes, by trusted pairs from the same source."""
    from clipscan import pipeline
    from clipscan.run import RunFolder
    from clipscan.run.calibrating import calibrate as run_calibrate

    folder, clean = RunFolder(run), RunFolder(trusted)
    with folder.lock():
        done = run_calibrate(
            folder, pipeline.reopen(folder), clean, pipeline.reopen(clean), rate,
            backend=backend, devices=devices, threads=threads,
        )  # fmt: skip
    print(
        f"{done.called:,} of {done.rows:,} samples to drop, on average at most {rate:.1%} of them clean "
        f"({done.trusted:,} trusted pairs, which can convict {done.fewest:,} or more)"
    )
    print(f"next: clipscan export {run} --decisions {run / 'calibration.parquet'}")


@app.command()
def partition(
    run: Run,
    threshold: Annotated[
        float | None,
        typer.Option(help="safe from this posterior of the high component on", show_default="0.9"),
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="instead: this share of the pairs is safe, highest cosines first")
    ] = None,
    by: Annotated[
        str, typer.Option(help="cosine: of the model that embedded the run; trusted: of the trusted model")
    ] = "cosine",
) -> None:
    """Safe and risky pairs: a mixture of two normal components in the cosines of picture and caption.

    Means something for a model that has not learnt its poison: a trusted one, or one after a unimodal
    warm-up and an epoch at a small rate, as in `clipscan train --method safeclip`. A fully trained suspect
    finds its poison fitting. Lists in RUN/partition, of the format of drop lists.
    """
    from clipscan import pipeline
    from clipscan.run import RunFolder

    folder = RunFolder(run)
    with folder.lock():
        found = pipeline.partition(folder, pipeline.reopen(folder), by=by, threshold=threshold, share=share)
    print(found.words())
    print(f"lists: {run}/partition/risky.parquet, safe.parquet; without the risky ones:")
    print(f"clipscan apply {run} --drop {run}/partition/risky.parquet --to DIR")
    if (folder / "suspects.parquet").exists():
        print(f"look at {folder / 'report/index.html'}#partition")
    else:
        print(f"a page, with the histogram: clipscan score {run}")


@app.command()
def apply(
    run: Run,
    to: Annotated[Path, typer.Option(help="a new folder", show_default=False)],
    drop: Annotated[
        Path | None,
        typer.Option(help="instead of RUN/drop.parquet: RUN/partition/risky.parquet"),
    ] = None,
    keep_bad: Annotated[bool, typer.Option("--keep-bad", help="copy unreadable samples too")] = False,
) -> None:
    """Write the dataset without the samples on the drop list; the bytes of all others are untouched."""
    from clipscan.pipeline import apply as run_apply

    counts = run_apply(run, to, drop=drop, keep_bad=keep_bad)
    print(f"{to}: {counts.kept:,} samples written, {counts.dropped:,} dropped, {counts.bad:,} unreadable")


@app.command()
def train(
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", help="the checkpoint, a .safetensors file", show_default=False)
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="clipscan-conv-32 or -64 for small pictures, or any open_clip name",
            show_default="clipscan-conv-32, or that of --init",
        ),
    ] = None,
    init: Annotated[Path | None, typer.Option(exists=True, help="go on from this checkpoint")] = None,
    epochs: Annotated[int, typer.Option()] = 10,
    batch_size: Annotated[int, typer.Option()] = 256,
    lr: Annotated[float, typer.Option(help="peak learning rate of AdamW")] = 2e-3,
    flip: Annotated[
        bool, typer.Option(help="mirror pictures at random; off where captions tell left from right")
    ] = True,
    seed: Annotated[int, typer.Option()] = 0,
    method: Annotated[str, typer.Option(help="clip, or safeclip (Yang et al. 2024)")] = "clip",
    drop: Annotated[
        Path | None, typer.Option(help="train without the pairs of a drop list: RUN/drop.parquet")
    ] = None,
    warmup_epochs: Annotated[
        int, typer.Option(help="safeclip: first epochs, of pictures and captions each for themselves")
    ] = 5,
    slow_rate: Annotated[
        float | None,
        typer.Option(
            help="safeclip: constant learning rate of the one epoch on all pairs after these",
            show_default="0.04 by the steps of an epoch",
        ),
    ] = None,
    growth: Annotated[
        float, typer.Option(help="safeclip: share of the pairs that each later epoch takes for safe beside")
    ] = 0.01,
    pool: Annotated[
        float,
        typer.Option(help="safeclip: share of the pairs whose features may stand in for a view; 0: none"),
    ] = 0.02,
    truth: Annotated[
        Path | None,
        typer.Option(exists=True, help="safeclip: truth.parquet of clipscan lab poison, to count against"),
    ] = None,
    cache_gb: Annotated[
        float | None,
        typer.Option(help="GB of disk for decoded pixels beside the checkpoint", show_default="8.6"),
    ] = None,
    format: Format = "auto",
    image_key: ImageKey = None,
    text_key: TextKey = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Train a CLIP on the very data to be scanned, which is what the method needs. Killed, it resumes.

    safeclip learns in spite of poison: pictures and captions for themselves first, then the pairs that fit.
    What it took for safe in each epoch lies in OUT.partition.jsonl (of OUT.safetensors). Several processes,
    one a GPU: torchrun --nproc-per-node N -m clipscan train ...; nobody has run that on a GPU yet.
    """
    from clipscan.data import Without, open_dataset
    from clipscan.lab.poison import read_truth
    from clipscan.report.lists import DropList
    from clipscan.train import SafeClip, train_clip
    from clipscan.train.torchrun import launched
    from clipscan.train.train import CACHE_BYTES

    if method not in ("clip", "safeclip"):
        raise InputError(f"no method {method!r}; there are: clip, safeclip")
    dataset = open_dataset(source, format=format, image_key=image_key, text_key=text_key)
    if drop is not None:
        dataset = Without(dataset, set(DropList.load(drop)))
        dataset.check()
    speaks = launched()[0] == 0
    if speaks:
        print(dataset.describe())
    safeclip = SafeClip(warmup_epochs, slow_rate, growth=growth, pool=pool)
    train_clip(
        dataset, out, model=model, init=init, epochs=epochs, batch_size=batch_size, lr=lr, flip=flip,
        seed=seed, device=device, workers=workers,
        cache_bytes=CACHE_BYTES if cache_gb is None else round(cache_gb * 1e9),
        safeclip=safeclip if method == "safeclip" else None,
        truth=None if truth is None else read_truth(truth), log=lambda line: print(line, flush=True),
    )  # fmt: skip
    if speaks:
        print(f"next: clipscan scan {source} --pretrained {out} --out RUN")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="a folder; called again it continues")] = Path("demo"),
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """The whole job on generated pictures with a planted backdoor: offline, on a CPU, in minutes."""
    from clipscan.lab.demo import run_demo

    run_demo(out, seed=seed)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="the same for machines")] = False) -> None:
    """What is here, what is missing and why: versions, devices, back-ends, optional packages."""
    import json

    from clipscan.doctor import examine, page

    found = examine()
    print(json.dumps(found, indent=1) if as_json else page(found))


@bench.command("knn")
def bench_knn(
    n: Annotated[int, typer.Option("--n", help="generated rows")] = 50_000,
    d: Annotated[int, typer.Option("--d", help="their width")] = 512,
    k: Annotated[list[str] | None, typer.Option("--k", help="neighbours, one or several: 16,64")] = None,
    data: Annotated[str, typer.Option(help="clustered | tight (the worst case)")] = "clustered",
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(help="counted runs")] = 3,
    csv: Annotated[Path | None, typer.Option("--csv", help="append the rows to this file")] = None,
) -> None:
    """The exact neighbour table of generated rows: time, share of this machine's peak, recall, memory."""
    from clipscan.bench import ITSELF, Plan, drive, parse_ks, report
    from clipscan.engine import cores

    plan = Plan(n, d, parse_ks(k or ["16,64"]), threads or cores(), rounds, data=data)
    print(report(drive(plan, {"clipscan": ITSELF}, lambda line: print(line, file=sys.stderr)), csv))


@bench.command("kernels")
def bench_kernels(
    n: Annotated[int, typer.Option("--n", help="generated rows")] = 200_000,
    d: Annotated[int, typer.Option("--d", help="their width")] = 512,
    k: K = 16,
    device: Annotated[int, typer.Option(help="number of the GPU")] = 0,
    rounds: Annotated[int, typer.Option(help="counted runs")] = 20,
    json: Annotated[Path | None, typer.Option("--json", help="add the rows to this file")] = None,
) -> None:
    """The CUDA engine's kernels one by one: time, rate, share of the GPU's matrix and copy rates."""
    from clipscan.bench import records
    from clipscan.bench.kernels import KernelPlan, measure_kernels, table

    rows = []
    plan = KernelPlan(n, d, k, device, rounds)
    for row in measure_kernels(plan, lambda line: print(line, file=sys.stderr)):
        rows.append(row)
        if json:
            records.add(json, "kernels", row)
    print(table(rows))


@bench.command("embed")
def bench_embed(
    model: Annotated[
        str, typer.Option(help="open_clip's name; random weights, nothing is fetched")
    ] = "ViT-B-32",
    n: Annotated[
        int | None, typer.Option("--n", help="generated pictures a round; default: 128, on a GPU 8192")
    ] = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = None,
    compile: Compile = False,
    rounds: Annotated[int, typer.Option(help="counted runs")] = 3,
    csv: Annotated[Path | None, typer.Option("--csv", help="append the rows to this file")] = None,
) -> None:
    """Pictures a second: the encoder alone, captions alone, decoding alone, end to end."""
    from clipscan.bench import report
    from clipscan.bench.embed import COLUMNS, EmbedPlan, measure_embedding, table

    plan = EmbedPlan(model, n, batch_size, device, precision, workers, compile, rounds)
    rows = measure_embedding(plan, lambda line: print(line, file=sys.stderr))
    print(report(rows, csv, COLUMNS, table))


def _dry_run(source: str, format: str, image_key: str | None, text_key: str | None) -> None:
    from clipscan.data import Bad, open_dataset

    dataset = open_dataset(source, format=format, image_key=image_key, text_key=text_key)
    print(dataset.describe())
    for one in list(_first(dataset.read(dataset.shards[0]), 3)):
        print(
            f"bad   {one.shard} {one.key}: {one.reason}"
            if isinstance(one, Bad)
            else f"ok    {one.shard} {one.key}: {one.caption[:80]!r}"
        )


def _first(items: Any, count: int) -> Any:
    return (item for _, item in zip(range(count), items, strict=False))


def main() -> None:
    """Entry point: errors that clipscan raises on purpose become one line and exit code 1."""
    try:
        app()
    except (ClipscanError, ImportError) as error:
        print(f"clipscan: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except BrokenPipeError:  # the reader of a pipe left early
        os._exit(1)
