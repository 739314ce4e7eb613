"""The main job, all rooms joined: a dataset in, ranked suspects, lists and a page out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipscan.data import Counts, Dataset, open_dataset, write_without
from clipscan.errors import InputError, RunError
from clipscan.report.choose import choose_drops
from clipscan.report.explain import explain as explained
from clipscan.report.lists import DropList, Written
from clipscan.report.partition import write_partition
from clipscan.report.standing import keep_lists, keep_page, put_lists, put_page
from clipscan.run import (
    Progress,
    RunFolder,
    Settings,
    Silent,
    embed_stage,
    graph_stage,
    retrieval_stage,
    score_stage,
    select_stage,
    trusted_stage,
)
from clipscan.run.embedding import encoder_place
from clipscan.run.mending import AFTER, ALL, mending
from clipscan.run.outputs import sound, write_marker
from clipscan.run.partitioning import partition_stage
from clipscan.run.places import refuse_inside, refuse_target
from clipscan.run.scanned import SCAN_AGAIN, Scanned, changed_since, reopened
from clipscan.scores.estimate import Estimate
from clipscan.scores.mixture import Partition

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder


@dataclass(frozen=True)
class Scan:
    """A finished run: where it lies, its counts, and how many samples are convicted, or stand apart; the
    tables are the files of the folder."""

    out: Path
    counts: dict[str, int]
    estimate: Estimate

    @property
    def page(self) -> Path:
        """The report: one HTML file."""
        return self.out / "report/index.html"

    def table(self, name: str = "suspects") -> Any:
        """suspects, groups, bad or drop as a pyarrow.Table; InputError for a table that is not there."""
        import pyarrow.parquet as pq

        path = self.out / f"{name}.parquet"
        sound(path)
        if not path.exists():
            there = ", ".join(sorted(found.stem for found in self.out.glob("*.parquet")))
            raise InputError(f"no table {name!r} in {self.out}; there are: {there}")
        return pq.read_table(path)


def scan(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    model: str | None = None,
    pretrained: str | Path | None = None,
    trusted_model: str | None = None,
    trusted_pretrained: str | Path | None = None,
    k: int = 16,
    method: str = "consensus",
    reference: str = "1024x8",
    against: str = "image",
    fraction: float | None = None,
    graph: str = "auto",
    seed: int = 0,
    format: str = "auto",
    image_key: str | None = None,
    text_key: str | None = None,
    roots: Sequence[str | Path] = (),
    quoting: str = "csv",
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    batch_size: int = 256,
    workers: int | None = None,
    backend: str = "auto",
    devices: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Scan:
    """Scan a dataset end to end into the run folder `out`.

    source: a folder, tars, a brace list, a table or precomputed embeddings (see clipscan.data.open_dataset);
    embeddings need no model. model, pretrained: an open_clip name and tag, or a checkpoint file. The method
    looks for what the model has learnt from this very data: see `clipscan train`.
    trusted_model, trusted_pretrained: a second model, named likewise, that has NOT seen this data; it adds
    the score `trusted`, 1 - cosine of each pair, which may also be the method, and costs a second pass.
    format, image_key, text_key, roots, quoting: how to read the dataset, as open_dataset takes them.
    fraction: share of the samples to suspect and to put on the drop list; None: dropped are those that
    consensus convicts, or that stand apart at the suspicious end of another method (scores/estimate.py),
    perhaps none, and at least 1 % are suspects. device: where the model runs; backend, devices: what
    searches, and on which GPUs. All else as in clipscan.score.

    Killed at any moment and called again with the same arguments it continues; with other arguments it
    refuses, unless `overwrite`. Raises DataError when nothing readable is found, InputError for arguments,
    RunError where the folder refuses, BackendError where the named back-end cannot serve.
    """
    settings = Settings(method, k, reference, against, seed, graph, backend, devices, threads)
    settings.check()
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"fraction={fraction} must be a share of the samples, above 0 and at most 1")
    if method == "trusted" and trusted_model is None and trusted_pretrained is None:
        raise InputError("method 'trusted' needs a trusted model: trusted_model=NAME, trusted_pretrained=TAG")

    def stages() -> RunFolder:
        run, dataset = embed(
            source, out=out, model=model, pretrained=pretrained,
            trusted_model=trusted_model, trusted_pretrained=trusted_pretrained,
            format=format, image_key=image_key, text_key=text_key, roots=roots, quoting=quoting,
            device=device, precision=precision, compile=compile, batch_size=batch_size, workers=workers,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
        finish(run, dataset, settings, fraction, overwrite, progress or Silent())
        return run

    run = mending(stages, ALL, progress or Silent())
    return Scan(run.path, run.record["counts"], Estimate.of(run.record["estimate"]))


def embed(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    model: str | None = None,
    pretrained: str | Path | None = None,
    trusted_model: str | None = None,
    trusted_pretrained: str | Path | None = None,
    format: str = "auto",
    image_key: str | None = None,
    text_key: str | None = None,
    roots: Sequence[str | Path] = (),
    quoting: str = "csv",
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    batch_size: int = 256,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[RunFolder, Dataset]:
    """The first stage of `scan`: vectors of every readable sample, in the run folder `out`; and what the
    trusted model says of every pair, where there is one."""
    dataset = open_dataset(
        source, format=format, image_key=image_key, text_key=text_key, roots=roots, quoting=quoting
    )
    refuse_inside(Path(out), dataset)
    progress = progress or Silent()
    progress.note(dataset.describe())
    how = {"device": device, "precision": precision, "compile": compile}
    encoder = _encoder(dataset, model, pretrained, how)
    trusted = _trusted_encoder(dataset, trusted_model, trusted_pretrained, how, encoder)
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "overwrite": overwrite}
    run = RunFolder(out)

    def stages() -> None:
        embed_stage(run, dataset, encoder, progress, **options)
        run.update(encoder=encoder_place(model, pretrained))
        trusted_stage(run, dataset, trusted, progress, **options)

    with run.lock():
        mending(stages, {"embed", "trusted"}, progress)
    return run, dataset


def _encoder(
    dataset: Dataset, model: str | None, pretrained: str | Path | None, how: dict[str, Any]
) -> Encoder | None:
    """The model under suspicion; none for precomputed embeddings."""
    if dataset.format == "embeddings":
        return None
    if model is None and pretrained is None:
        raise InputError(
            "a dataset of pictures needs a model: --pretrained FILE (from `clipscan train`, an encoder "
            "that has seen this data) or --model NAME --pretrained TAG of open_clip"
        )
    from clipscan.embed.model import load_encoder

    return load_encoder(model, None if pretrained is None else str(pretrained), **how)


def _trusted_encoder(
    dataset: Dataset,
    model: str | None,
    pretrained: str | Path | None,
    how: dict[str, Any],
    suspect: Encoder | None,
) -> Encoder | None:
    """The second model, where one is given; never the first one again."""
    if model is None and pretrained is None:
        return None
    if suspect is None:
        raise InputError(
            f"a trusted model looks at pictures and captions; {dataset.source} holds embeddings. "
            "Scan the dataset they were made from, or leave --trusted-model and --trusted-pretrained out"
        )
    trusted = _encoder(dataset, model, pretrained, how)
    if trusted and trusted.weights_hash == suspect.weights_hash:
        raise InputError(
            "the trusted model has the weights of the model under suspicion, whose own agreement is the "
            "score 'cosine'; name one that has not been trained on this data"
        )
    return trusted


def finish(
    run: RunFolder,
    dataset: Dataset,
    settings: Settings,
    fraction: float | None,
    overwrite: bool,
    progress: Progress,
) -> None:
    """Everything after the vectors: graph, scores, suspects, lists, page."""

    def stages() -> None:
        graph_stage(run, dataset, settings, progress, overwrite)
        score_stage(run, dataset, settings, progress, overwrite)
        retrieval_stage(run, dataset, settings)
        select_stage(run, dataset, settings, fraction, overwrite)
        keep_lists(run, {"apart": True} if fraction is None else {"fraction": fraction})
        keep_page(run, dataset)

    with run.lock():
        mending(stages, AFTER, progress)
        progress.note(f"page: {run / 'report/index.html'}")


def export(
    run: RunFolder,
    dataset: Dataset,
    *,
    fraction: float | None = None,
    threshold: float | None = None,
    decisions: Path | None = None,
    apart: bool = False,
    add: bool = False,
) -> Written:
    """Drop and keep lists by one of four rules (report/choose.py), with `add` beside the list as it is; and
    the page that shows them."""
    rows = choose_drops(
        run.path, fraction=fraction, threshold=threshold, decisions=decisions, apart=apart, add=add
    )
    written = put_lists(run, rows)
    put_page(run, dataset)
    return written


def partition(
    run: RunFolder,
    dataset: Dataset,
    *,
    by: str = "cosine",
    threshold: float | None = None,
    share: float | None = None,
) -> Partition:
    """Split the pairs of an embedded run into safe and risky ones, by the cosines of the model that embedded
    it or, by="trusted", of its trusted model; lists and table in RUN/partition (report/partition.py), and
    the page anew where the run has one. The drop list stays as it is.

    Rules and errors: clipscan.partition; RunError for a run without captions, or without a trusted model.
    """
    found = partition_stage(run, dataset, by=by, threshold=threshold, share=share)
    write_partition(run.path)
    write_marker(run.path, "partition", "", {})
    if (run / "suspects.parquet").exists():
        put_page(run, dataset)
    return found


def reopen(run: RunFolder) -> Dataset:
    """The dataset of a run, opened as it was; RunError when it is gone, or no longer what was scanned."""
    dataset, changes = reopened(run)
    if changes:
        raise RunError(f"{changed_since(run, changes)}. {SCAN_AGAIN}")
    return dataset


def apply(
    path: str | Path,
    to: str | Path,
    *,
    drop: str | Path | None = None,
    keep_bad: bool = False,
    leave_out_unscanned: bool = False,
) -> Counts:
    """Write the dataset of a run to the folder `to` without the samples on its drop list, or on that in the
    file `drop`, and, unless `keep_bad`, without those that were not embedded (bad.parquet). All others keep
    their bytes.

    Files that are new or changed since the scan are refused, or, with leave_out_unscanned, left out with all
    that is in them. RunError for these and for a target in run or dataset; DataError where a sample of the
    lists is not found. The target is made whole or not at all.
    """
    run = RunFolder(path)
    dataset, changes = reopened(run)
    refuse_target(Path(to), run.path, dataset)
    if changes and not leave_out_unscanned:
        raise RunError(
            f"{changed_since(run, changes)}. {SCAN_AGAIN}, or leave them out: --leave-out-unscanned"
        )
    drop_list = set(DropList.load(drop or run / "drop.parquet"))
    scanned = Scanned(run, dataset)
    left_out = scanned.leave_out(changes.same)
    here = {shard.name for shard in dataset.shards}
    listed = {pair for pair in drop_list if pair[0] in here or pair[0] not in scanned.names}
    counts = write_without(
        dataset, listed, to, drop_bad=not keep_bad, scanned=scanned.keys, verify=scanned.verify
    )
    return counts._replace(left_out=left_out)


def explain(path: str | Path, key: str) -> str:
    """What is known of one sample, as text: whether and why it is suspected, its scores with their ranks, and
    the nearest samples of the whole set.

    key: its key or file name, or "SHARD/KEY" where several have that. RunError when it is not there.
    """
    run = RunFolder(path)
    return explained(run, reopen(run), key)
