"""Two questions to an experiment: what did the encoder learn, and did the scan find what was planted?

behave(encoder, held_out, classes)   zero-shot accuracy, and how often the trigger works
grade(run, truth)                    AUROC, average precision and recall of every score column
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.dataset as pads
from numpy.typing import NDArray

from clipscan.data import Dataset, Sample
from clipscan.errors import DataError, RunError
from clipscan.lab.campaigns import NATURAL, Campaign, Part, nearly, triggered
from clipscan.lab.metrics import auroc, average_precision, recall_at
from clipscan.lab.phrases import PROMPTS, mentions
from clipscan.lab.pictures import redraw
from clipscan.lab.poison import Identity

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder

SHARES = (0.001, 0.002, 0.01, 0.02, 0.05, 0.1)  # of the dataset, removed
ALERTS = 0.002  # of them the budget of whoever looks at each alert himself
VARIANTS = 100  # of the one picture of a targeted attack


class Behaviour(NamedTuple):
    """What a model does with held-out pictures. Targets that are no classes stand among the answers, but for
    the accuracy: whoever uses the model does not ask for them."""

    accuracy: float  # clean pictures given their own class
    success: float  # triggered pictures given the target, of those that are not of the target's class
    false_alarm: float  # the same pictures without the trigger given the target
    pictures: int


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
    model: Sample | None = None,
) -> Behaviour:
    """Zero-shot answers on held-out pictures, with and without the campaign's triggers.

    A picture's class is the one class that its caption names; pictures whose caption names none or
    several are passed over, at most `limit` used. Several triggers: success and false alarms are means
    over them. Where one picture is repeated there is no trigger: of "targeted" the success is that of
    VARIANTS slightly changed copies of `model`, the picture; of natural duplicates it is NaN.
    DataError when no picture is left, or one cannot be decoded.
    """
    pairs = list(islice(labelled(held_out, classes), limit))
    if not pairs:
        raise DataError(f"{held_out.source}: no caption names exactly one of {', '.join(classes)}")
    label = np.array([label for _, label in pairs])
    targets = [part.target for part in campaign.parts]
    names = [*classes, *dict.fromkeys(target for target in targets if target not in classes)]
    answers = class_vectors(encoder, names)
    near = _nearness(encoder, (sample for sample, _ in pairs), answers)
    clean = near.argmax(axis=1)
    if lost := len(label) - len(clean):
        raise DataError(f"{held_out.source}: {lost} held-out pictures cannot be decoded; remove them")
    success, false_alarm = [], []
    for part in campaign.parts:
        target = names.index(part.target) if part.target in names else -1
        other = [sample for (sample, _), own in zip(pairs, label, strict=True) if own != target]
        marked = _shown(campaign, part, other, model, Random(f"clipscan trigger {seed}"))
        fooled = np.empty(0)
        if campaign.kind not in NATURAL:
            fooled = _nearness(encoder, marked, answers).argmax(axis=1)
        success.append(float((fooled == target).mean()) if len(fooled) else math.nan)
        false_alarm.append(float((clean == target)[label != target].mean()))
    known = near[:, : len(classes)].argmax(axis=1)
    return Behaviour(
        float((known == label).mean()), float(np.mean(success)), float(np.mean(false_alarm)), len(label)
    )


def _shown(
    campaign: Campaign, part: Part, pictures: Sequence[Sample], model: Sample | None, random: Random
) -> Iterator[Sample]:
    """What the attacker shows the model."""
    if campaign.kind == "targeted":
        assert model is not None
        for _ in range(VARIANTS):
            yield replace(model, image=redraw(model.image or b"", lambda pixels: nearly(pixels, random)))
        return
    for sample in pictures:
        if (marked := triggered(sample, part, random)) is not None:
            yield marked


def class_vectors(encoder: Encoder, classes: Sequence[str]) -> NDArray[np.float32]:
    """[c, width]: the mean of a class's normalised prompts, normalised (Radford et al. 2021)."""
    prompts = [prompt.format(name) for name in classes for prompt in PROMPTS]
    vectors = _unit(encoder.encode_texts(prompts)).reshape(len(classes), len(PROMPTS), -1)
    return _unit(vectors.mean(axis=1))


def grade(run: Path, truth: Set[Identity]) -> list[Grade]:
    """Every score column of a run, best AUROC first. Poisoned pairs that the run could not read do not count.

    Rows where a score is not a number stand at its bottom. RunError when there are no scores, or none of
    the truth among them.
    """
    files = sorted((run / "scores").glob("scores_*.parquet"))
    if not files:
        raise RunError(f"{run} holds no scores/scores_*.parquet; run `clipscan scan` to its end first")
    table = pads.dataset(files, format="parquet").to_table()
    identities = zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True)
    planted = np.array([identity in truth for identity in identities])
    if not planted.any():
        raise RunError(
            f"none of the {len(truth)} poisoned pairs is among those scored: is it another dataset?"
        )
    grades = []
    for name in table.column_names:
        if name in ("shard", "key") or name.endswith("_spread"):
            continue
        column = np.nan_to_num(table[name].to_numpy(), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        recall = tuple(recall_at(column, planted, share) for share in SHARES)
        grades.append(Grade(name, auroc(column, planted), average_precision(column, planted), recall))
    return sorted(grades, key=lambda one: -one.auroc)


def labelled(dataset: Dataset, classes: Sequence[str]) -> Iterator[tuple[Sample, int]]:
    """Pairs whose caption names one class, with its number."""
    for sample in chain.from_iterable(map(dataset.read, dataset.shards)):
        if isinstance(sample, Sample):
            named = [i for i, name in enumerate(classes) if mentions(sample.caption, name)]
            if len(named) == 1:
                yield sample, named[0]


def _nearness(
    encoder: Encoder, samples: Iterable[Sample], answers: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Cosine of every picture that can be decoded with every answer."""
    from clipscan.embed.decode import DecodePool
    from clipscan.embed.embed import embed_samples

    with DecodePool() as pool:
        image = embed_samples(samples, encoder, pool).image.astype(np.float32)
    return _unit(image) @ answers.T


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-12))
