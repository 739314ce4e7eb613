"""The main job: a dataset in, ranked suspects, lists and a page out; whole, or in its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipscan.errors import InputError
from clipscan.report.keep_outputs import keep_lists, keep_page
from clipscan.report.notebook import show
from clipscan.run import (
    Compute,
    Encoding,
    Models,
    Progress,
    Ranking,
    Reading,
    Run,
    Silent,
    embed_stage,
    graph_stage,
    retrieval_stage,
    score_stage,
    select_stage,
    trusted_stage,
)
from clipscan.run.encoders import encoder_place, load_encoders
from clipscan.run.markers import check_intact
from clipscan.run.mending import AFTER, ALL, mending
from clipscan.run.places import refuse_inside
from clipscan.scores.estimate import Estimate
from clipscan.scores.renamed import warn_if_renamed

Source = str | Path | Sequence[str | Path]


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

    def _repr_html_(self) -> str:
        return show(self.out).html

    def table(self, name: str = "suspects") -> Any:
        """suspects, groups, bad or drop as a pyarrow.Table; InputError for a table that is not there."""
        import pyarrow.parquet as pq

        path = self.out / f"{name}.parquet"
        check_intact(path)
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
    k: int = Ranking.k,
    method: str = Ranking.method,
    reference: str = Ranking.reference,
    against: str = Ranking.against,
    fraction: float | None = Ranking.fraction,
    graph: str = Ranking.graph,
    seed: int = Ranking.seed,
    format: str = Reading.format,
    image_key: str | None = Reading.image_key,
    text_key: str | None = Reading.text_key,
    roots: Sequence[str | Path] = Reading.roots,
    quoting: str = Reading.quoting,
    device: str = Encoding.device,
    precision: str = Encoding.precision,
    compile: bool = Encoding.compile,
    batch_size: int = Encoding.batch_size,
    workers: int | None = Encoding.workers,
    backend: str = Compute.backend,
    devices: str = Compute.devices,
    threads: int | None = Compute.threads,
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
    perhaps none, and at least 1 % are suspects. device: where the model runs; backend, devices: the
    back-end of the search, and its GPUs. All else as in clipscan.score.

    Killed at any moment and called again with the same arguments it continues; with other arguments it raises
    RunError, unless `overwrite`. Raises DataError when nothing readable is found, InputError for arguments,
    RunError for a folder of another scan, BackendError where the named back-end cannot serve.
    """
    return scan_with(
        source,
        out,
        Models(model, pretrained, trusted_model, trusted_pretrained),
        Reading(format, image_key, text_key, roots, quoting),
        Encoding(device, precision, compile, batch_size, workers),
        Ranking(warn_if_renamed(method, stacklevel=2), k, reference, against, fraction, graph, seed),
        Compute(backend, devices, threads),
        overwrite,
        progress,
    )


def scan_with(
    source: Source,
    out: str | Path,
    models: Models = Models(),
    reading: Reading = Reading(),
    encoding: Encoding = Encoding(),
    ranking: Ranking = Ranking(),
    compute: Compute = Compute(),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Scan:
    """`scan`, its options as values."""
    ranking.check(compute)
    if ranking.method == "trusted" and not models.has_trusted:
        raise InputError("method 'trusted' needs a trusted model: trusted_model=NAME, trusted_pretrained=TAG")

    def stages() -> Run:
        run = embed(source, out, models, reading, encoding, overwrite, progress)
        score(run, ranking, compute, overwrite, progress)
        return run

    run = mending(stages, ALL, progress or Silent())
    return Scan(run.path, run.record["counts"], Estimate.of(run.record["estimate"]))


def embed(
    source: Source,
    out: str | Path,
    models: Models = Models(),
    reading: Reading = Reading(),
    encoding: Encoding = Encoding(),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Run:
    """The first stage of `scan`: vectors of every readable sample, in the run folder `out`; and the
    distance of every pair in the trusted model, where there is one."""
    run = Run(out, reading.open(source))
    refuse_inside(run.path, run.dataset)
    progress = progress or Silent()
    progress.note(run.dataset.describe())
    suspect, trusted = load_encoders(run.dataset, models, encoding)

    def stages() -> None:
        embed_stage(run, suspect, encoding, progress, overwrite)
        run.update(encoder=encoder_place(models.model, models.pretrained))
        trusted_stage(run, trusted, encoding, progress, overwrite)

    with run.lock():
        mending(stages, {"embed", "trusted"}, progress)
    return run


def knn(
    run: Run,
    ranking: Ranking = Ranking(),
    compute: Compute = Compute(),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Only the exact neighbour graph of an embedded run."""
    with run.opened():
        graph_stage(run, ranking, compute, progress or Silent(), overwrite)


def score(
    run: Run,
    ranking: Ranking = Ranking(),
    compute: Compute = Compute(),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Everything after the vectors: graph, scores, suspects, lists, page."""
    progress = progress or Silent()

    def stages() -> None:
        graph_stage(run, ranking, compute, progress, overwrite)
        score_stage(run, ranking, compute, progress, overwrite)
        retrieval_stage(run, ranking, compute)
        select_stage(run, ranking, overwrite)
        keep_lists(run, {"apart": True} if ranking.fraction is None else {"fraction": ranking.fraction})
        keep_page(run)

    with run.opened():
        mending(stages, AFTER, progress)
        progress.note(f"page: {run / 'report/index.html'}")
