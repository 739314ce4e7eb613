"""Two measurements of an experiment: what the encoder learnt, and whether the scan found what was planted.

behave(encoder, held_out, classes)   accuracy or retrieval, and how often the trigger works
grade(run, truth)                    AUROC, average precision and recall of every score column
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.dataset as pads
from numpy.typing import NDArray

from clipscan.data import Dataset, Sample
from clipscan.data.redraw import redraw
from clipscan.engine.arrays import normalised
from clipscan.errors import DataError, InputError, RunError
from clipscan.lab.attacks.campaigns import NATURAL, TARGETED, WORDS_ONLY, Campaign, CampaignPart, triggered
from clipscan.lab.attacks.poisoning import Identity
from clipscan.lab.attacks.prompts import mentions
from clipscan.lab.grid.metrics import auroc, average_precision, recall_at
from clipscan.lab.grid.zero_shot import Bools, of_captions, of_classes
from clipscan.lab.scenes.repetitions import nearly

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder

SHARES = (0.001, 0.002, 0.01, 0.02, 0.05, 0.1)  # of the dataset, removed
ALERTS = 0.002  # of them a budget of alerts that a person can look at
NEAREST = 10  # captions that a picture's own one should be among
VARIANTS = 100  # of the one picture of a targeted attack


class Behaviour(NamedTuple):
    """What a model does with held-out pictures; NaN for what there is none of. Targets stand among the
    answers, but not for accuracy and retrieval, as users of the model would not name them."""

    accuracy: float  # clean pictures given their own class
    success: float  # triggered pictures given the target, of those that are not the target's own
    false_alarm: float  # the same pictures without the trigger given the target
    pictures: int
    retrieval: float = math.nan  # clean pictures whose own caption is among the NEAREST of CANDIDATES


class Grade(NamedTuple):
    """One score column against the truth; `recall` belongs to SHARES."""

    score: str
    auroc: float
    average_precision: float
    recall: tuple[float, ...]


def behave(
    encoder: Encoder,
    held_out: Dataset,
    classes: Sequence[str],
    *,
    campaign: Campaign,
    seed: int = 0,
    limit: int | None = None,
    repeated: Mapping[str, Sample] | None = None,
) -> Behaviour:
    """What the model answers on held-out pictures, with and without the campaign's triggers.

    With classes the answer is a picture's class, the one class that its caption names. Without (free
    captions) it is the nearest of up to 1,000 held-out captions and the PROMPTS of the targets: an
    attack succeeds on a picture whose own caption does not name the target where the caption nearest to it
    does; where a target is common, the false alarms say what that is worth. At most `limit` pictures.

    Several targets: success and false alarms are means over them. Of poison in captions alone the trigger is
    the concept: success is that of pictures whose caption names it, the false alarms those of the others. Of
    "targeted" the success is that of VARIANTS slightly changed copies of `repeated`, target -> its picture;
    of natural duplicates, and where nothing can be shown, it is NaN. DataError when no picture is left, or
    one cannot be decoded; InputError for "targeted" without `repeated`.
    """
    if classes:
        exam = of_classes(encoder, held_out, classes, campaign, limit)
    else:
        exam = of_captions(encoder, held_out, campaign, limit)
    near = _nearness(encoder, exam.pictures, exam.answers)
    if lost := len(exam.pictures) - len(near):
        raise DataError(f"{held_out.source}: {lost} held-out pictures cannot be decoded; remove them")
    clean = near.argmax(axis=1)
    success, false_alarm = [], []
    for part, wanted, own in zip(campaign.parts, exam.wanted, exam.own, strict=True):
        tried, spared = _tried(campaign, part, exam.pictures, own)
        other = [exam.pictures[row] for row in np.flatnonzero(tried)]
        marked = list(_shown(campaign, part, other, repeated, Random(f"clipscan trigger {seed}")))
        fooled = _nearness(encoder, marked, exam.answers).argmax(axis=1) if marked else []
        success.append(_share(wanted[fooled]))
        false_alarm.append(_share(wanted[clean[spared]]))
    known = _share(near[:, : exam.apart].argmax(axis=1) == exam.right) if classes else math.nan
    retrieved = math.nan if classes else _retrieved(near[:, : exam.apart], exam.right)
    means = float(np.mean(success)), float(np.mean(false_alarm))
    return Behaviour(known, *means, len(exam.pictures), retrieved)


def _tried(
    campaign: Campaign, part: CampaignPart, pictures: Sequence[Sample], own: Bools
) -> tuple[Bools, Bools]:
    """[n] each: the pictures that an attack is tried on, and those that false alarms are counted on."""
    if campaign.kind not in WORDS_ONLY:
        return ~own, ~own
    showing = np.array([mentions(sample.caption, part.concept) for sample in pictures])
    return showing & ~own, ~showing & ~own


def _retrieved(near: NDArray[np.float32], right: NDArray[np.int64]) -> float:
    """Share of the pictures [n, a] whose own answer is among the NEAREST, of those that have one."""
    rows = np.flatnonzero(right >= 0)
    above = near[rows] > near[rows, right[rows]][:, None]
    return _share(above.sum(axis=1) < NEAREST)


def _share(hits: Bools) -> float:
    return float(hits.mean()) if len(hits) else math.nan


def _shown(
    campaign: Campaign,
    part: CampaignPart,
    pictures: Sequence[Sample],
    repeated: Mapping[str, Sample] | None,
    random: Random,
) -> Iterator[Sample]:
    """What the attacker shows the model."""
    if campaign.kind in NATURAL:
        return
    if campaign.kind == TARGETED:
        if repeated is None:
            raise InputError("targeted: which picture was poisoned is known to `clipscan lab run` only")
        for _ in range(VARIANTS if part.target in repeated else 0):
            yield _again(repeated[part.target], random)
        return
    for sample in pictures:
        if (marked := triggered(sample, part, random)) is not None:
            yield marked


def _again(sample: Sample, random: Random) -> Sample:
    return replace(sample, image=redraw(sample.image or b"", lambda pixels: nearly(pixels, random)))


def grade(folder: Path, truth: Set[Identity]) -> list[Grade]:
    """Every score column of a run, best AUROC first. Poisoned pairs that the run could not read do not count.

    Rows where a score is not a number stand at its bottom. RunError when there are no scores, or none of
    the truth among them.
    """
    files = sorted((folder / "scores").glob("scores_*.parquet"))
    if not files:
        raise RunError(f"{folder} holds no scores/scores_*.parquet; run `clipscan scan` to its end first")
    table = pads.dataset(files, format="parquet").to_table()
    identities = zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True)
    planted = np.array([identity in truth for identity in identities])
    if not planted.any():
        raise RunError(
            f"none of the {len(truth)} poisoned pairs is among those scored: is it another dataset?"
        )
    grades = []
    for name in table.column_names:
        if name in ("shard", "key", "population") or name.endswith("_spread"):
            continue
        column = np.nan_to_num(table[name].to_numpy(), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        recall = tuple(recall_at(column, planted, share) for share in SHARES)
        grades.append(Grade(name, auroc(column, planted), average_precision(column, planted), recall))
    return sorted(grades, key=lambda one: -one.auroc)


def _nearness(
    encoder: Encoder, samples: Iterable[Sample], answers: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cosine of every picture that can be decoded with every answer."""
    from clipscan.embed.decode_pool import DecodePool
    from clipscan.embed.embed_shard import embed_samples

    with DecodePool() as pool:
        image = embed_samples(samples, encoder, pool).image.astype(np.float32)
    return normalised(image) @ answers.T
