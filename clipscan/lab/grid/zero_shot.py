"""The zero-shot test on held-out pictures: the possible answers, and those that an attacker wants.

With class names the answers are classes, as in zero-shot classification. Free captions have none: there the
answers are captions, as in retrieval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.data import Dataset, Sample
from clipscan.engine.arrays import normalised
from clipscan.errors import DataError
from clipscan.lab.attacks.campaigns import Campaign
from clipscan.lab.attacks.prompts import PROMPTS, mentions

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder

Bools = NDArray[np.bool_]
CANDIDATES = 1000  # captions that a picture's own one stands among


class Exam(NamedTuple):
    """n pictures and a answers. `right` is the answer that is a picture's own, -1 where it stands among none;
    `apart`: the first so many answers, among which alone it is sought: those behind are the attacker's."""

    pictures: list[Sample]
    answers: NDArray[np.float32]  # [a, width], normalised
    right: NDArray[np.int64]  # [n]
    apart: int
    wanted: list[Bools]  # for each part of the campaign [a]: answers that name its target
    own: list[Bools]  # for each part [n]: pictures of the target itself, which say nothing of a trigger


def of_classes(
    encoder: Encoder, held_out: Dataset, classes: Sequence[str], campaign: Campaign, limit: int | None
) -> Exam:
    """The answers are the classes, and targets that are none. A picture's class is the one class that its
    caption names; pictures whose caption names none or several are passed over."""
    pairs = list(islice(labelled(held_out, classes), limit))
    if not pairs:
        raise DataError(f"{held_out.source}: no caption names exactly one of {', '.join(classes)}")
    label = np.array([label for _, label in pairs])
    targets = [part.target for part in campaign.parts]
    names = [*classes, *dict.fromkeys(target for target in targets if target not in classes)]
    at = [names.index(target) for target in targets]
    wanted, own = [np.arange(len(names)) == i for i in at], [label == i for i in at]
    pictures = [sample for sample, _ in pairs]
    return Exam(pictures, class_vectors(encoder, names), label, len(classes), wanted, own)


def of_captions(encoder: Encoder, held_out: Dataset, campaign: Campaign, limit: int | None) -> Exam:
    """The answers are the different captions of the first CANDIDATES pairs, and the prompts of each target;
    a picture is the target's own where its caption names it. One caption a picture is what makes ranks
    comparable: of several the others of a picture stand in one another's way."""
    read = chain.from_iterable(map(held_out.read, held_out.shards))
    needed = None if limit is None else max(CANDIDATES, limit)
    pictures = list(islice((one for one in read if isinstance(one, Sample)), needed))
    if not pictures:
        raise DataError(f"{held_out.source}: no readable pair")
    captions = list(dict.fromkeys(sample.caption for sample in pictures[:CANDIDATES]))
    place = {caption: at for at, caption in enumerate(captions)}
    targets = [part.target for part in campaign.parts]
    answers = captions + [prompt.format(word) for word in dict.fromkeys(targets) for prompt in PROMPTS]
    pictures = pictures[:limit]
    return Exam(
        pictures,
        normalised(encoder.encode_texts(answers)),
        np.array([place.get(sample.caption, -1) for sample in pictures]),
        len(captions),
        [_naming(answers, target) for target in targets],
        [_naming([sample.caption for sample in pictures], target) for target in targets],
    )


def labelled(dataset: Dataset, classes: Sequence[str]) -> Iterator[tuple[Sample, int]]:
    """Pairs whose caption names one class, with its number."""
    for sample in chain.from_iterable(map(dataset.read, dataset.shards)):
        if isinstance(sample, Sample):
            named = [i for i, name in enumerate(classes) if mentions(sample.caption, name)]
            if len(named) == 1:
                yield sample, named[0]


def class_vectors(encoder: Encoder, classes: Sequence[str]) -> NDArray[np.float32]:
    """[c, width]: the mean of a class's normalised prompts, normalised (Radford et al. 2021)."""
    prompts = [prompt.format(name) for name in classes for prompt in PROMPTS]
    vectors = normalised(encoder.encode_texts(prompts)).reshape(len(classes), len(PROMPTS), -1)
    return normalised(vectors.mean(axis=1))


def _naming(captions: Sequence[str], word: str) -> Bools:
    return np.array([mentions(caption, word) for caption in captions])
