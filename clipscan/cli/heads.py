"""`clipscan heads ...`: which heads of a ViT a trigger acts through. Options become arguments, no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipscan.cli.option_groups import grouped
from clipscan.cli.options import LogJson, Model, Overwrite, Pretrained, shown
from clipscan.run.options import Encoding, Reading

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder
    from clipscan.heads.statistics import Fit

app = typer.Typer(
    no_args_is_help=True,
    help="Backdoors inside a ViT, picture by picture: infected heads and MLPs, filtered or repaired.",
)

FitFile = Annotated[
    Path, typer.Argument(metavar="FIT", help="the file of clipscan heads fit", show_default=False)
]
Source = Annotated[
    str, typer.Argument(metavar="DATASET", help="folder, tars ({000..331}.tar) or table", show_default=False)
]
Moved = Annotated[
    str | None,
    typer.Option("--pretrained", help="the fit's checkpoint, where it no longer lies where it lay"),
]
OnHeads = Annotated[Encoding, "device", "batch_size", "workers"]  # precision is that of the fit


@app.command("fit")
@grouped
def fit_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CLEAN_DATASET",
            help="pictures without triggers, like those to be scanned",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="a .safetensors file", show_default=False)],
    model: Model = None,
    pretrained: Pretrained = None,
    rate: Annotated[float, typer.Option(help="share of clean pictures that may be flagged")] = 0.01,
    limit: Annotated[int, typer.Option(help="pictures of CLEAN_DATASET to use")] = 10_000,
    precision: Annotated[str, typer.Option(help="fp32, or bf16, fp16: faster, terms less exact")] = "fp32",
    reading: Reading = Reading(),
    encoding: OnHeads = Encoding(batch_size=64),
    log_json: LogJson = False,
) -> None:
    """Record the terms of heads and MLPs of the model under suspicion on clean pictures, and set thresholds.

    ViTs of open_clip's only. With OpenAI's weights in a file, name the model with -quickgelu.
    """
    from clipscan.embed.model import load_encoder
    from clipscan.heads.fit import fit_heads
    from clipscan.heads.fit_file import save_fit
    from clipscan.run.encoders import encoder_place

    clean = reading.open(source)
    encoder = load_encoder(model, pretrained, device=encoding.device, precision=precision)
    fit = fit_heads(
        encoder, clean, rate=rate, limit=limit, batch_size=encoding.batch_size, workers=encoding.workers,
        place=encoder_place(model, pretrained), progress=shown(log_json),
    )  # fmt: skip
    save_fit(out, fit)
    makers, others = fit.settings["pictures"]
    print(f"{makers:,} clean pictures made the prototypes, {others:,} others the thresholds")
    print(f"a picture is flagged above {fit.threshold:.2f}: at most {rate:.2%} of clean ones")
    print(f"next: clipscan heads scan {out} DATASET --out heads.parquet")


@app.command("scan")
@grouped
def scan_command(
    fit_file: FitFile,
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="a .parquet file", show_default=False)],
    pretrained: Moved = None,
    reading: Reading = Reading(),
    encoding: OnHeads = Encoding(batch_size=64),
    log_json: LogJson = False,
) -> None:
    """One row a picture: infected heads, head and MLP score, flagged or not; and a map of the deviations."""
    from clipscan.heads.scan import scan_heads

    dataset = reading.open(source)
    fit, encoder = _opened(fit_file, pretrained, encoding.device)
    found = scan_heads(
        encoder, fit, dataset, out,
        batch_size=encoding.batch_size, workers=encoding.workers, progress=shown(log_json),
    )  # fmt: skip
    print(f"{found.pictures:,} pictures, {found.bad:,} unreadable ({out.with_suffix('.bad.parquet')})")
    clean = fit.settings["rate"] * found.pictures
    print(
        f"{found.flagged:,} flagged, {found.branches['head']:,} through heads and {found.branches['mlp']:,} "
        f"through MLPs; were all clean, about {clean:,.0f} would be"
    )
    print(f"rows: {out}; where they deviate: {out.with_suffix('.svg')}")


@app.command("repair")
@grouped
def repair_command(
    fit_file: FitFile,
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", help="a folder; called again it continues", show_default=False)
    ],
    branch: Annotated[
        str,
        typer.Option(help="auto: flagged pictures, by their larger score; head, mlp: that, in all pictures"),
    ] = "auto",
    pretrained: Moved = None,
    reading: Reading = Reading(),
    encoding: OnHeads = Encoding(batch_size=64),
    overwrite: Overwrite = False,
    log_json: LogJson = False,
) -> None:
    """Embed with repaired picture vectors: a run folder, its embeddings/ in clip-retrieval's layout."""
    from clipscan.heads.fit import refuse_vectors
    from clipscan.heads.repaired import repaired
    from clipscan.run import Run, embed_stage
    from clipscan.run.places import refuse_inside

    dataset = reading.open(source)
    refuse_vectors(dataset)
    refuse_inside(out, dataset)
    fit, encoder = _opened(fit_file, pretrained, encoding.device)
    run = Run(out, dataset)
    with run.lock():
        embed_stage(run, repaired(encoder, fit, branch), encoding, shown(log_json), overwrite)
    counts = run.record["counts"]
    print(
        f"{counts['listed']:,} listed = {counts['embedded']:,} embedded + {counts['bad']:,} bad (bad.parquet)"
    )
    print(f"repaired vectors: {out / 'embeddings'}")


def _opened(fit_file: Path, pretrained: str | None, device: str) -> tuple[Fit, Encoder]:
    """A fit and its encoder, loaded from where the fit says that it lies, at the fit's precision."""
    from clipscan.embed.model import load_encoder
    from clipscan.heads.fit_file import load_fit

    fit = load_fit(fit_file)
    told = fit.settings["encoder"]
    pretrained = pretrained or fit.settings["place"]["pretrained"]
    return fit, load_encoder(told["model"], pretrained, device=device, precision=told["precision"])
