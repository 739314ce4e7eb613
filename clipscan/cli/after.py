"""The commands after a scan: is it poison, how much, and a dataset without it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipscan.cli.option_groups import grouped
from clipscan.cli.options import Device, Model, Overwrite, RunPath
from clipscan.run.options import Compute, Encoding


def report(
    run: RunPath,
    blur: Annotated[
        bool, typer.Option("--blur", help="pictures are blurred until they are pointed at or asked for")
    ] = False,
) -> None:
    """Write the page of a run anew: RUN/report/index.html."""
    from clipscan import pipeline
    from clipscan.run import Run

    print(pipeline.report(Run(run), blur))


def invert(
    run: RunPath,
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
    device: Device = Encoding.device,
    overwrite: Overwrite = False,
) -> None:
    """Recover the trigger of a suspect group: mask, pattern, success on held-out pictures, and controls.

    Harmless captions that occur about as often are recovered too: a pattern can be found for any caption,
    and what marks a backdoor is that its own takes far less of the picture. Into RUN/invert, and the page.
    """
    from clipscan import pipeline
    from clipscan.invert import SearchBudget
    from clipscan.run import Run

    done, page = pipeline.invert(
        Run(run), group, caption=caption, model=model, pretrained=pretrained, device=device,
        forms=[form.strip() for form in forms.split(",") if form.strip()], controls=controls,
        plan=SearchBudget(steps, batch_size), seed=seed, overwrite=overwrite,
        say=lambda line: print(line, flush=True),
    )  # fmt: skip
    print(f"{done.summary()} ({done.folder})")
    if page:
        print(f"look at {page}#triggers")


def status(
    run: RunPath,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="compare every file with what was written; exit code 1 if one differs"),
    ] = False,
) -> None:
    """How far a run has come: its stages, its counts, what is dropped by which rule, and what comes next."""
    from clipscan.report.summary import summary
    from clipscan.run import status as run_status
    from clipscan.run.status import verify as run_verify

    if verify and (damaged := run_verify(run)):
        print("\n".join(one.words() for one in damaged))
        raise typer.Exit(1)
    for stage in run_status(run):
        state = "not asked for" if not stage.total else f"{stage.done} of {stage.total} tasks"
        print(f"{stage.stage:<7} {state:<20} {stage.seconds:8.1f} s")
    print("\n".join(summary(run)))


def explain(
    run: RunPath,
    key: Annotated[
        str, typer.Argument(help="a sample's key or file name, or SHARD/KEY where several have it")
    ],
) -> None:
    """Everything about one sample: suspected, dropped, why; its scores and ranks, its neighbours."""
    from clipscan import pipeline
    from clipscan.run import Run

    print(pipeline.explain(Run(run), key))


def export(
    run: RunPath,
    fraction: Annotated[float | None, typer.Option(help="drop this share, most suspicious first")] = None,
    threshold: Annotated[float | None, typer.Option(help="drop every score above")] = None,
    decisions: Annotated[
        list[Path] | None,
        typer.Option(
            help="what the page saved, or CSV, parquet or JSON lines of key, decision (drop or keep), "
            "perhaps shard; given several times, the files of several people"
        ),
    ] = None,
    conflicts: Annotated[
        str,
        typer.Option(
            help="where files of decisions differ: refuse, drop, keep or last (the last file counts)"
        ),
    ] = "refuse",
    apart: Annotated[
        bool,
        typer.Option(
            "--apart", help="drop those that are convicted (consensus) or stand apart, perhaps none"
        ),
    ] = False,
    add: Annotated[
        bool, typer.Option("--add", help="to the list as it is, instead of in its place; keep takes off")
    ] = False,
) -> None:
    """Write the lists anew by another rule: drop.parquet, keep.txt, drop.txt, and keep_uids.npy.

    The list of an earlier export is replaced, unless --add. keep_uids.npy is DataComp's, and written only
    where every sample has a uid of 32 hex digits.
    """
    from clipscan import pipeline
    from clipscan.report.summary import summary
    from clipscan.run import Run

    written = pipeline.export(
        Run(run), fraction=fraction, threshold=threshold, decisions=decisions or None, apart=apart, add=add,
        conflicts=conflicts,
    )  # fmt: skip
    if written.before and add:
        print(f"added to the list before: {written.before}")
    elif written.before:
        print(f"in place of the list before (--add would add to it): {written.before}")
    if written.uids is None:
        print("no keep_uids.npy: it is for DataComp, and not every sample has a uid of 32 hex digits")
    print("\n".join(summary(run)))


@grouped
def calibrate(
    run: RunPath,
    clean: Annotated[
        Path,
        typer.Argument(help="a run folder of pairs known to be clean, made by embed with the same model"),
    ],
    rate: Annotated[float, typer.Option(help="share of clean ones among those to drop, on average")] = 0.05,
    compute: Compute = Compute(),
) -> None:
    """Which samples to drop at a stated rate of mistakes, by held-out clean pairs from the same source."""
    from clipscan import pipeline
    from clipscan.run import Run

    done = pipeline.calibrate(Run(run), Run(clean), rate, compute)
    print(
        f"{done.called:,} of {done.rows:,} samples to drop, on average at most {rate:.1%} of them clean "
        f"({done.clean:,} held-out clean pairs, which can convict {done.fewest:,} or more)"
    )
    if done.left_out:
        named = ", ".join(f"{shard}/{key}" for shard, key in done.left_out[:3])
        more = ", ..." if len(done.left_out) > 3 else ""
        print(
            f"{len(done.left_out):,} clean pairs were left out, as {run} holds their pictures: {named}{more}"
        )
    if done.called:
        print(f"next: clipscan export {run} --decisions {run / 'calibration.parquet'}")
    else:
        print(
            "no sample is convicted; with more clean pairs, or a higher --rate, a smaller number of samples "
            "can be convicted"
        )


def partition(
    run: RunPath,
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

    The split means something only for a model that has not learnt its poison: a trusted one, or one after a
    unimodal warm-up and an epoch at a small rate, as in `clipscan train --method safeclip`. A fully trained
    suspect finds its poison fitting. Lists in RUN/partition, of the format of drop lists.
    """
    from clipscan import pipeline
    from clipscan.run import Run

    found = pipeline.partition(Run(run), by=by, threshold=threshold, share=share)
    print(found.words())
    print(f"lists: {run}/partition/risky.parquet, safe.parquet; without the risky ones:")
    print(f"clipscan apply {run} --drop {run}/partition/risky.parquet --to DIR")
    if (run / "suspects.parquet").exists():
        print(f"look at {run / 'report/index.html'}#partition")
    else:
        print(f"a page, with the histogram: clipscan score {run}")


def apply(
    run: RunPath,
    to: Annotated[Path, typer.Option(help="a new folder", show_default=False)],
    drop: Annotated[
        Path | None,
        typer.Option(help="instead of RUN/drop.parquet: RUN/partition/risky.parquet"),
    ] = None,
    keep_bad: Annotated[bool, typer.Option("--keep-bad", help="copy unreadable samples too")] = False,
    leave_out_unscanned: Annotated[
        bool,
        typer.Option("--leave-out-unscanned", help="leave files out that are new or changed since the scan"),
    ] = False,
) -> None:
    """Write the dataset without the samples on the drop list; the bytes of all others are untouched.

    Only what was scanned is written: files that are new or changed since then are refused, or left out.
    """
    from clipscan import pipeline
    from clipscan.run import Run
    from clipscan.run.embedding import passed_over

    scanned = Run(run)
    counts = pipeline.apply(
        scanned, to, drop=drop, keep_bad=keep_bad, leave_out_unscanned=leave_out_unscanned
    )
    bad = "unreadable ones copied" if keep_bad else "unreadable"
    print(f"{to}: {counts.kept:,} samples written, {counts.dropped:,} dropped, {counts.bad:,} {bad}")
    for line in passed_over(scanned):
        print(line)
    if counts.left_out:
        print(f"left out, new or changed since the scan: {', '.join(counts.left_out)}")
