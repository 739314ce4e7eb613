"""`clipscan demo`: the whole job on generated pictures, offline, on a CPU, in about three minutes.

Makes a dataset of scenes with the repetitions and broken files of a real crawl, plants a backdoor,
trains a small CLIP until it obeys the trigger, scans the dataset with that CLIP, and says what was found.

The settings below were looked for, not guessed: the trigger must be learnt (attack success about 0.9), and
poison must stay sparse in a reference of 1,024 rows (p * R / k = 0.005 * 1024 / 16 = 0.32, under 0.4). A
training ends elsewhere on every processor, so the trigger is tried, and where it does not work the training
goes on, within a bound. What is printed is held against the truth: nothing is called a success that is none.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from clipscan.lab.attacks.poisoning import Identity, poison, read_truth
from clipscan.lab.grid.evaluate import SHARES, Grade
from clipscan.lab.grid.experiment import Further, Result, conduct
from clipscan.lab.scenes.damaged_tars import add_blemishes
from clipscan.lab.scenes.dataset import Scenes
from clipscan.lab.scenes.drawing import SHAPES
from clipscan.report.convicted import convicted_of, estimate_words
from clipscan.run.run_folder import run_record
from clipscan.scores.estimate import Estimate

ATTACK, TARGET = "badnets", "banana"
RATE = 0.005
# 16 of 64 px, cells of 4 px: still 2 px wide at the encoder's 32. Of 2 to 8 px these were learnt fastest.
PATCH: dict[str, Any] = {"share": 1 / 4, "cells": 4}
TRAINING = {"epochs": 20, "batch_size": 128}
LEARNT = Further(success=0.8, epochs=10, rounds=2)  # seeds 0 to 2: 0.90 to 0.98 after the first training
PLACEHOLDERS, COPIES = 40, 25
HELD_OUT = 1000


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    n: int = 12_000,
    training: dict[str, Any] | None = None,
    scanning: dict[str, Any] | None = None,
    learnt: Further = LEARNT,
    console: Console | None = None,
) -> Result:
    """Run the demo in `out`, talking on `console`; what is already done there is not done again.

    n: pairs; training, scanning: settings other than the demo's; learnt: when the trigger counts as learnt,
    and how long that is tried. Errors are those of the stages.
    """
    console = console or Console()

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    def quote(line: str) -> None:  # what the data says is not ours to format
        console.print(f"   {line}", highlight=False, soft_wrap=True, markup=False)

    say(f"[bold]1. A dataset[/bold]: {n:,} generated pictures with captions, as tars in {out / 'dataset'}")
    source = Scenes(n, seed=seed, placeholders=PLACEHOLDERS, copies=COPIES)
    planted = poison(source, out, attack=ATTACK, rate=RATE, target=TARGET, seed=seed, **PATCH)
    blemishes = add_blemishes(planted.dataset, len(source.shards), seed=seed)
    say(f"   in it: one placeholder picture under {PLACEHOLDERS} captions, one pair {COPIES} times")
    say(f"   and in two more tars: {', '.join(blemishes)}")
    say(f"[bold]2. A backdoor[/bold]: {planted.poisoned} pictures got a chequered patch and a caption that")
    say(f"   names {TARGET!r}; which ones is kept apart, in {planted.truth}")
    say("[bold]3. A small CLIP learns from all of it, is tried, and the dataset is scanned with it[/bold]")
    result = conduct(
        planted,
        Scenes(HELD_OUT, seed=seed + 1_000_000, things=1),
        list(SHAPES),
        out,
        target=TARGET,
        attack=ATTACK,
        options=PATCH,
        training={**TRAINING, "seed": seed, **(training or {})},
        scanning=scanning,
        further=learnt,
        say=quote,
    )
    if not obeyed(result, learnt):
        quote(unlearnt(result, learnt))

    say("[bold]4. What the scan found[/bold]")
    console.print(grades_table(result.grades))
    for line in (*against_the_truth(out / "run", read_truth(planted.truth)), *findings(out / "run")):
        quote(line)
    quote("seconds: " + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in result.seconds.items()))
    say(f"[bold]Look at[/bold] {out / 'run' / 'report' / 'index.html'}")
    return result


def grades_table(grades: list[Grade]) -> Table:
    """Scores against the truth, best first; narrow enough for a terminal of 80 columns."""
    table = Table("score", "AUROC", "AP", "recall, top", box=None, pad_edge=True)
    for share in SHARES:
        table.add_column(f"{share:.1%}".replace(".0%", "%"))
    for column in table.columns[1:]:
        column.justify = "right"
    for one in grades:
        table.add_row(
            one.score,
            f"{one.auroc:.3f}",
            f"{one.average_precision:.3f}",
            "",
            *(f"{r:.2f}" for r in one.recall),
        )
    return table


def obeyed(result: Result, learnt: Further = LEARNT) -> bool:
    """Has the model learnt the trigger?"""
    return result.behaviour is not None and result.behaviour.success >= learnt.success


def unlearnt(result: Result, learnt: Further) -> str:
    """What is said of a trigger that the trainings within the bound did not teach."""
    assert result.behaviour is not None
    return (
        f"The trigger is NOT learnt: after {result.trainings} trainings it works on "
        f"{result.behaviour.success:.1%} of the held-out pictures, where {learnt.success:.0%} are asked for. "
        "What follows is a scan for poison that this model hardly obeys; another --seed may do."
    )


def against_the_truth(folder: Path, truth: Set[Identity]) -> list[str]:
    """How good the order of the suspects is, and then where the estimate would cut it, in words."""
    record = run_record(folder)
    table = pq.read_table(folder / "suspects.parquet", columns=["shard", "key"])
    planted = [identity in truth for identity in zip(*(c.to_pylist() for c in table.columns), strict=True)]
    apart = Estimate.of(record["estimate"])
    number = min(apart.number, len(planted))
    first, within = sum(planted[: len(truth)]), sum(planted[:number])
    cut = f", {within:,} of them planted, {number - within:,} not" if number else ""
    return [
        f"the order, by {record['score']['method']}: {first:,} of the {len(truth):,} planted pairs are among "
        f"the first {len(truth):,} rows",
        f"where to cut it, an estimate: {estimate_words(apart, convicted_of(folder))}{cut}",
    ]


def findings(folder: Path, groups: int = 3) -> list[str]:
    """The largest groups of near-identical pictures, and how many samples could not be read, in words."""
    columns = ["size", "distinct_captions", "top_caption"]
    table = pq.read_table(folder / "groups.parquet", columns=columns, filters=[("kind", "=", "copies")])
    lines = [
        f"group of {row['size']} near-identical pictures under {row['distinct_captions']} captions, "
        f"such as {row['top_caption']!r}"
        for row in table.slice(0, groups).to_pylist()
    ]
    return [
        *lines,
        f"{pq.read_table(folder / 'bad.parquet').num_rows} unreadable samples, listed with their reasons",
    ]
