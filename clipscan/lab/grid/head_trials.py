"""What the filter and the repairs of `clipscan heads` are worth against a trigger that the encoder learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clipscan.data import Dataset, Sample, Without
from clipscan.errors import DataError, InputError
from clipscan.heads.fit import RATE, fit_heads
from clipscan.heads.read_terms import read_terms
from clipscan.heads.statistics import Doubles, Fit, Judgement, Mask, align, judge
from clipscan.lab.attacks.campaigns import ONE_PICTURE, Campaign, triggered
from clipscan.lab.grid.cells import Cell, Workplace, weights_of
from clipscan.lab.grid.evaluate import Behaviour, behave
from clipscan.lab.grid.metrics import auroc
from clipscan.lab.grid.zero_shot import labelled
from clipscan.run.file_io import write_json

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder


HEADS_FILE = "heads.json"


class HeadTrial(NamedTuple):
    """Behaviours with the plain encoder and with each repair, and how the filter tells pictures apart."""

    before: Behaviour
    head: Behaviour  # infected heads replaced, in every picture
    mlp: Behaviour  # late MLPs replaced, in every picture
    chosen: Behaviour  # flagged pictures only, by their larger score: what a user has
    auroc: dict[str, float]  # triggered against clean pictures, by each statistic
    flagged_clean: float  # share of the same pictures without the trigger
    flagged_triggered: float
    through_heads: float  # share of the flagged triggered pictures whose repair is that of heads; NaN: none
    layers: list[tuple[float, float]]  # AUROC of each block's mean shortfall: of its heads, of its MLP
    last: list[float]  # AUROC of the shortfall of each head of the last block

    def record(self) -> dict[str, Any]:
        """Columns of HEADS (result_rows.py): behaviours by repair, statistics, and the blocks in words."""
        repairs = {"head": self.head, "mlp": self.mlp, "auto": self.chosen}
        behaviours = {
            f"{name}_{repair}": getattr(seen, name)
            for repair, seen in repairs.items()
            for name in ("success", "accuracy")
        }
        statistics = {f"auroc_{name}": value for name, value in self.auroc.items()}
        words = {
            "blocks": " ".join(f"{heads:.2f}/{mlp:.2f}" for heads, mlp in self.layers),
            "last_heads": " ".join(f"{head:.2f}" for head in self.last),
        }
        shares = {
            "flagged_clean": self.flagged_clean,
            "flagged_triggered": self.flagged_triggered,
            "through_heads": self.through_heads,
        }
        return behaviours | statistics | shares | words


def split(held_out: Dataset, classes: Sequence[str]) -> tuple[Dataset, Dataset]:
    """(clean pictures to fit on, those to try on): of the pictures whose caption names one class every fifth,
    as in the paper, and the others."""
    found = [(sample.shard, sample.key) for sample, _ in labelled(held_out, classes)]
    fitted = set(found[::5])
    return Without(held_out, set(found) - fitted), Without(held_out, fitted)


def try_cell(cell: Cell, at: Path, epoch: int, rate: float, place: Workplace) -> None:
    """Write CELL/epochNN/heads.json, once: try_heads on the cell's model after so many epochs.

    rate: of false alarms. Held-out pictures to fit on come beside those to try. Errors are those of
    try_heads.
    """
    path = at / f"epoch{epoch:02d}" / HEADS_FILE
    if path.exists():
        return
    from clipscan.embed.model import load_encoder

    encoder = load_encoder(None, str(weights_of(cell, at, epoch)), device=place.device)
    clean, others = split(place.held_out, place.classes)
    trial = try_heads(
        encoder, clean, others, place.classes, campaign=cell.campaign, rate=rate, limit=place.limit
    )
    write_json(path, trial.record())
    place.say(
        f"epoch {epoch}: attack success {trial.before.success:.3f}, repaired {trial.chosen.success:.3f}"
    )


def try_heads(
    encoder: Encoder,
    clean: Dataset,
    held_out: Dataset,
    classes: Sequence[str],
    *,
    campaign: Campaign,
    rate: float = RATE,
    seed: int = 0,
    limit: int | None = None,
) -> HeadTrial:
    """Fit on `clean`, then try the campaign's triggers on `held_out`, which shares no picture with it.

    Classes, seed, limit: as in behave. The statistics are compared on the pictures that are not of a
    trigger's target, with the trigger and without. InputError where the campaign has no trigger; all other
    errors are those of behave and fit_heads.
    """
    if campaign.kind in ONE_PICTURE:
        raise InputError(f"{campaign.name} repeats one picture: there is no trigger to be seen in heads")
    from clipscan.heads.repaired import repaired

    fit = fit_heads(encoder, clean, rate=rate)
    behaviours = [
        behave(one, held_out, classes, campaign=campaign, seed=seed, limit=limit)
        for one in (encoder, *(repaired(encoder, fit, branch) for branch in ("head", "mlp", "auto")))
    ]
    without, marked = _pictures(held_out, classes, campaign, seed, limit)
    return _compared(behaviours, judged(encoder, fit, without), judged(encoder, fit, marked))


def judged(encoder: Encoder, fit: Fit, samples: Iterable[Sample]) -> Judgement:
    """The judgement on all pictures that can be decoded, in their order. DataError where there is none."""
    from clipscan.embed.decode_pool import DecodePool

    with DecodePool() as pool:
        batches = [batch.terms for batch in read_terms(samples, encoder, pool)]
    alignments = [align(terms, fit.prototype) for terms in batches if terms is not None]
    if not alignments:
        raise DataError("not one picture to judge")
    return judge(fit, np.concatenate(alignments))


def _pictures(
    held_out: Dataset, classes: Sequence[str], campaign: Campaign, seed: int, limit: int | None
) -> tuple[list[Sample], list[Sample]]:
    """(pictures not of a trigger's target, for each trigger; the same with it)."""
    pairs = list(islice(labelled(held_out, classes), limit))
    without, marked = [], []
    for part in campaign.parts:
        random = Random(f"clipscan trigger {seed}")
        for sample, number in pairs:
            if classes[number] != part.target and (shown := triggered(sample, part, random)) is not None:
                without.append(sample)
                marked.append(shown)
    return without, marked


def _compared(behaviours: Sequence[Behaviour], without: Judgement, marked: Judgement) -> HeadTrial:
    truth = np.repeat([False, True], [len(without.flagged), len(marked.flagged)])
    columns = {
        "infected_heads": (without.infected_heads, marked.infected_heads),
        "head": (without.head_score, marked.head_score),
        "mlp": (without.mlp_score, marked.mlp_score),
        "larger": (without.score, marked.score),
    }
    before, head, mlp, chosen = behaviours
    branches = marked.branch[marked.flagged]
    return HeadTrial(
        before, head, mlp, chosen,
        {name: auroc(np.concatenate(pair), truth) for name, pair in columns.items()},
        float(without.flagged.mean()),
        float(marked.flagged.mean()),
        float((branches == "head").mean()) if len(branches) else float("nan"),
        *_by_part(np.concatenate([without.shortfall, marked.shortfall]), truth),
    )  # fmt: skip


def _by_part(shortfall: Doubles, truth: Mask) -> tuple[list[tuple[float, float]], list[float]]:
    """Of the shortfalls [b, L, H + 1]: how well the heads of each block together, and its MLP, tell pictures
    apart; and each head of the last block."""
    blocks = [
        (auroc(shortfall[:, block, :-1].mean(axis=1), truth), auroc(shortfall[:, block, -1], truth))
        for block in range(shortfall.shape[1])
    ]
    return blocks, [auroc(head, truth) for head in shortfall[:, -1, :-1].T]
