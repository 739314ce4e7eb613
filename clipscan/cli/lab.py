"""`clipscan lab ...`: the laboratory on the command line. Options become arguments, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from clipscan.data import open_dataset
from clipscan.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Poison a dataset, train on it, and see what a scan finds.")

Attack = Annotated[
    str,
    typer.Option(
        help="badnets, blend, sig, nashville, wanet, issba, stripes, triangles, watermark, blto, badclip; "
        "several joined by +; clean-label:NAME; targeted; captions alone: concept, mmpoison, toxictextclip; "
        "or the natural placeholder and copies."
    ),
]
Target = Annotated[str, typer.Option(help="The word that poisoned captions name; several joined by +.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="A setting of the trigger or of the captions, NAME=VALUE, e.g. share=0.25, captions=copied, "
        "concept=snow; several times.",
    ),
]


@app.command("poison")
def poison_command(
    source: str,
    out: Path,
    attack: Attack = "badnets",
    rate: Annotated[float, typer.Option(help="Share of the pairs to poison.")] = 0.005,
    target: Target = "banana",
    seed: int = 0,
    pairs: Annotated[
        int | None, typer.Option(help="So many for each target, instead of a share of the pairs.")
    ] = None,
    option: Options = None,
) -> None:
    """Copy SOURCE to OUT/dataset with some pairs poisoned; which ones is kept apart, in OUT/truth.parquet."""
    from clipscan.lab.attacks.poisoning import poison

    settings: dict[str, Any] = {"attack": attack, "rate": rate, "target": target}
    settings |= {"seed": seed, "pairs": pairs}
    options = _options(option)
    if own := options.keys() & {*settings, "source", "out"}:
        raise InputError(f"--option {min(own)}=...: that is no setting of an attack; see --help")
    done = poison(open_dataset(source), out, **settings, **options)
    print(
        f"{done.poisoned:,} of {done.pairs:,} pairs poisoned, {done.unreadable:,} unreadable ones left out; "
        f"{done.mentions:,} clean captions name {target!r}. Dataset: {done.dataset}  truth: {done.truth}"
    )


@app.command("evaluate")
def evaluate_command(
    model: Path,
    held_out: str,
    classes: Annotated[
        str,
        typer.Option(
            help="Class names, comma-separated; held-out captions must name one. Without them captions are "
            "free, and the answer is the nearest of 1,000."
        ),
    ] = "",
    attack: Attack = "badnets",
    target: Target = "banana",
    seed: int = 0,
    option: Options = None,
    limit: int | None = None,
) -> None:
    """Accuracy or retrieval of MODEL (a file of `clipscan train`) on HELD_OUT; how often the trigger
    works."""
    from clipscan.embed.model import load_encoder
    from clipscan.lab.attacks.campaigns import parse_campaign
    from clipscan.lab.grid.evaluate import behave
    from clipscan.lab.grid.experiment import describe

    campaign = parse_campaign(attack, target, _options(option))
    encoder = load_encoder(None, str(model))
    seen = behave(encoder, open_dataset(held_out), _names(classes), campaign=campaign, seed=seed, limit=limit)
    print(describe(seen, target))


@app.command("grade")
def grade_command(run: Path, truth: Path) -> None:
    """AUROC, average precision and recall of every score of RUN against TRUTH (truth.parquet of `poison`)."""
    from clipscan.lab.attacks.poisoning import read_truth
    from clipscan.lab.demo import grades_table
    from clipscan.lab.grid.evaluate import grade

    Console().print(grades_table(grade(run, read_truth(truth))))


@app.command("repeat")
def repeat_command(
    run: Path,
    truth: Annotated[
        Path | None, typer.Option(help="truth.parquet of `poison`: says how many are planted.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=2, help="Seeds 0, 1, ...; each is scored in both ways of naming rows.")
    ] = 20,
) -> None:
    """Score the vectors of RUN by other seeds and identities of rows: how far the number to drop varies."""
    from clipscan.lab.attacks.poisoning import read_truth
    from clipscan.lab.grid.repeat import NEAR, near_median, repeat

    found = []
    for one in repeat(run, range(seeds), None if truth is None else read_truth(truth)):
        known = "" if truth is None else f", {one.planted:.0f} of them planted"
        print(f"seed {one.seed:2d}, drawn by {one.identity}: {one.dropped:,} to drop{known}", flush=True)
        found.append(one)
    dropped = sorted(one.dropped for one in found)
    print(
        f"{len(found)} scorings: {dropped[0]:,} to {dropped[-1]:,} to drop, "
        f"{near_median(found):.0%} of them within {NEAR:.0%} of the median"
    )


def _options(given: list[str] | None) -> dict[str, Any]:
    """["share=0.25", "place=corner"] -> {"share": 0.25, "place": "corner"}."""
    options: dict[str, Any] = {}
    for entry in given or []:
        name, is_one, value = entry.partition("=")
        if not is_one:
            raise InputError(f"--option {entry!r} is no NAME=VALUE")
        options[name] = _value(value)
    return options


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _names(classes: str) -> list[str]:
    return [name.strip() for name in classes.split(",") if name.strip()]


@app.command("run")
def run_command(
    config: Path,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the cells and rows; called again it continues.")
    ],
    only: Annotated[
        str | None, typer.Option(help="Only cells whose dataset/name contains this; * and ? match.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Score anew; trainings are kept.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time.")] = 1,
    device: Annotated[str, typer.Option(help="Where models run: auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Every cell of CONFIG (TOML, see examples/lab): poison, train, try, score, compare with the truth."""
    from clipscan.lab.grid.config import read_config
    from clipscan.lab.grid.runner import run

    def say(line: str) -> None:
        print(line, flush=True)

    done = run(read_config(config), out, only=only, again=again, jobs=jobs, device=device, say=say)
    print(f"{done.cells} cells finished, {done.rows:,} rows: {out / 'rows.csv'}, {out / 'models.csv'}")
    if done.stale:
        print(f"{done.stale:,} figures were made by other score code than this; --again makes them anew")
    for failure in done.failures:
        print(f"FAILED {failure.name}: {failure.reason}")
    if done.failures:
        raise typer.Exit(1)


@app.command("tables")
def tables_command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of `clipscan lab run`.")],
    to: Annotated[Path, typer.Option(help="Folder for the pages and plots.")],
) -> None:
    """Markdown pages, one for each question, and plots of the rows in DIR..."""
    from clipscan.lab.tables.write_pages import write_pages

    for path in write_pages(folders, to):
        print(path)


@app.command("sheet")
def sheet_command(
    to: Annotated[Path, typer.Option(help="The picture, .png.")] = Path("attacks.png"),
    seed: int = 0,
    blto: Annotated[Path | None, typer.Option(help="A trigger of `clipscan lab craft blto`.")] = None,
    badclip: Annotated[Path | None, typer.Option(help="A trigger of `clipscan lab craft badclip`.")] = None,
) -> None:
    """A picture of every attack: one scene with each trigger, and what it changed, four times as loud."""
    from clipscan.lab.attacks.sheet import draw_sheet
    from clipscan.lab.attacks.triggers import ATTACKS

    files = {name: str(file) for name, file in (("blto", blto), ("badclip", badclip)) if file}
    print(draw_sheet(to, ATTACKS, seed, files))


@app.command("craft")
def craft_command(
    attack: Annotated[str, typer.Argument(help="blto or badclip.")],
    model: Annotated[Path, typer.Argument(help="The attacker's own encoder, of `clipscan train`.")],
    source: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset that it learns from.")],
    out: Annotated[Path, typer.Option("--out", help="The trigger's file, .safetensors.")],
    target: Annotated[str, typer.Option(help="The word that poisoned captions will name.")],
    seed: int = 0,
    steps: Annotated[int | None, typer.Option(help="How long to learn; each attack has its own.")] = None,
    batch_size: int = 128,
    share: Annotated[float | None, typer.Option(help="Side of badclip's patch, as part of a side.")] = None,
    place: Annotated[str | None, typer.Option(help="Of badclip's patch: middle, corner, random.")] = None,
    device: Annotated[str, typer.Option(help="Where models run: auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Learn a trigger against MODEL; then `--attack ATTACK --option file=FILE` plants it."""
    from clipscan.lab.attacks.learnt.crafting import craft

    def say(line: str) -> None:
        print(line, flush=True)

    craft(
        attack, model, open_dataset(source), out, target=target, seed=seed, steps=steps,
        batch_size=batch_size, share=share, place=place, device=device, log=say,
    )  # fmt: skip
    print(f"next: clipscan lab poison DATASET OUT --attack {attack} --target {target} --option file={out}")
