"""Topics whose pictures are of two kinds, some of which bear what hardly any other picture does.

A trigger for a common word, once it is half learnt, is neither odd nor mismatched: only among the captions of
that word do its pictures stand out. So each topic is asked for the trait of its own pictures, and then for
that of those who bear it most. How far these stand apart from the rest of their topic only says which parts
are looked at; conviction is elsewhere.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.populations.change_point import FEWEST
from clipscan.scores.populations.discriminant import AGAIN, FOLDS
from clipscan.scores.populations.evidence import Evidence
from clipscan.scores.populations.topics import SHARED
from clipscan.scores.scaled import settled

DIVIDED = 4  # topics, those whose pictures stand furthest apart
SCREENED = 256  # topics that are looked at, at most
BLOCK = 32  # of them at once


class DividedTopics:
    """Found once; a population that is convicted takes its own away."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def among(self, left: Array) -> list[Array]:
        """The parts that stand furthest apart, each of other rows than those before, of rows that are all
        `left` ([n] bool); each [n] bool."""
        found: list[Array] = []
        taken = ~left
        for rows in self._parts:
            if taken[rows].mean() <= SHARED:
                found.append(self._evidence.chosen(rows[left[rows]]))
                taken = taken | found[-1]
            if len(found) == DIVIDED:
                break
        return found

    @cached_property
    def _parts(self) -> list[Array]:
        """Of topics drawn at random the part that stands apart, the furthest first."""
        evidence = self._evidence
        topics, screen, parts = _distinct(evidence), _Screen(evidence), []
        for start in range(0, len(topics), BLOCK):
            parts += screen.parts(topics[start : start + BLOCK])
        parts.sort(key=lambda part: -part[1])
        return [rows for rows, _ in parts if len(rows) >= FEWEST and evidence.pictures.count(rows) >= FEWEST]


def _distinct(evidence: Evidence) -> Array:
    """Neighborhoods of captions drawn at random that have not most rows in common, [t, TOPIC]."""
    taken, topics = np.zeros(evidence.n, bool), []
    for rows in evidence.drawn_topics[1]:
        if taken[rows].mean() <= SHARED:
            topics.append(rows)
            taken[rows] = True
        if len(topics) == SCREENED:
            break
    return np.array(topics, np.int64)


class _Screen:
    """Traits of many topics at once, each tried on its own rows and on a sample."""

    def __init__(self, evidence: Evidence) -> None:
        self._trait = evidence.trait
        sample = evidence.pairs.drawn
        self._sample, self._fold = self._trait.features.take(sample), self._trait.fold[sample]

    def parts(self, topics: Array) -> list[tuple[Array, float]]:
        """Of each topic [t, TOPIC] the rows that bear a trait, and how far they are from its others."""
        fold = self._trait.fold[topics]
        x = np.array([self._trait.features.take(rows) for rows in topics])
        chosen = np.ones(topics.shape, bool)
        for again in range(1 + AGAIN):
            borne = self._borne(x, fold, chosen)
            if again < AGAIN:
                chosen = borne >= _division(borne)[:, None]
        parts = [rows[mine] for rows, mine in zip(topics, chosen, strict=True)]
        return list(zip(parts, _apart(borne, chosen).tolist(), strict=True))

    def _borne(self, x: Array, fold: Array, chosen: Array) -> Array:
        """How far each row of each topic x [t, TOPIC, d] bears what the chosen of the other folds share,
        [t, TOPIC], in deviations of the sample."""
        members = chosen[:, None] & (fold[:, None] == np.arange(FOLDS)[:, None])
        total, count = members.astype(np.float64) @ x, members.sum(axis=2)
        others = np.maximum(count.sum(axis=1, keepdims=True) - count, 1)
        axes = (total.sum(axis=1, keepdims=True) - total) / others[:, :, None]
        axes = (axes.reshape(-1, x.shape[2]) @ self._trait.inverse).reshape(axes.shape)
        borne = x @ axes.transpose(0, 2, 1)
        for one in range(FOLDS):
            if not (here := self._fold == one).any():
                continue
            values = axes[:, one] @ self._sample[here].T
            low, median, high = np.quantile(values, [0.16, 0.5, 0.84], axis=1)[:, :, None]
            scale = np.where(high > low, (high - low) / 2, 1.0)
            borne[:, :, one] = (borne[:, :, one] - median) / scale
        return settled(np.take_along_axis(borne, fold[:, :, None], axis=2)[:, :, 0])


def _apart(values: Array, chosen: Array) -> Array:
    """How far the means of the chosen of each row [t, m] and of its others differ, in the deviation of both
    (Ashman 1994): [t]; about 2.6 where all are of one normal distribution, 0 where there are no others."""
    means, variances = [], []
    for part in (chosen, ~chosen):
        count = np.maximum(1, part.sum(axis=1))
        means.append((values * part).sum(axis=1) / count)
        variances.append((np.square(values - means[-1][:, None]) * part).sum(axis=1) / count)
    deviation = np.sqrt((variances[0] + variances[1]) / 2)
    known = (deviation > 0) & ~chosen.all(axis=1)
    return np.where(known, (means[0] - means[1]) / np.where(known, deviation, 1.0), 0.0)


def _division(values: Array) -> Array:
    """The least value of the upper part of each row [t, m], so that the means of both parts differ most, by
    variance between them (Otsu 1979): [t]."""
    high = -np.sort(-values, axis=1)
    upper, count = np.cumsum(high, axis=1)[:, :-1], np.arange(1, high.shape[1])
    rest, others = high.sum(axis=1, keepdims=True) - upper, high.shape[1] - count
    between = np.square(upper / count - rest / others) * count * others
    return np.take_along_axis(high, between.argmax(axis=1)[:, None], axis=1)[:, 0]
