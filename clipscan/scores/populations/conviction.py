"""Conviction: are the captions of a candidate wrong, in the eyes of evidence that did not find it?

Whatever is convicted by what its pictures share is on pictures of all kinds, by what they show that captions
speak of: victims of a trigger are of all kinds, an honest topic is not.

trait    captions are wrong there, and pictures bear the trait far more than all others do: a picture has a
         trigger or has none.
target   captions that say so are hardly ever found on other pictures: whoever plants words that nobody else
         uses plants the trigger with them, but of an honest topic the pictures that bear one trait are a
         part. So less needs to be wrong.
collapse the suspect model tells these pictures apart far less than what they show would have it, and they
         bear the trait far more than all others.
captions all who say what nobody else says are wrong, in several wordings: one wording may be boilerplate.
density  captions are wrong beside those of groups of neighbours elsewhere; or, without pictures to ask about,
         members are as alone as rows can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipscan.engine.arrays import Array, unit
from clipscan.scores.pairs import Pairs
from clipscan.scores.pictures import mean_by
from clipscan.scores.populations.change_point import null_share
from clipscan.scores.references import Scale

NULL_SHARE = 0.4  # estimated share of clean pairs, at most; of a group of neighbours:
NULL_SHARE_OF_GROUP = 0.3
WRONG = 1.75  # mean misfit of its pictures, at least; of a target:
WRONG_OF_TARGET = 0.8
SEPARATE = 2.3  # how far a population bears its trait beside those who come next, at least; of a collapse:
SEPARATE_OF_COLLAPSE = 6.0
SEPARATE_WORDS = 4.0  # the same of words that are convicted by themselves
CONTRACTED = 3.0  # how many times more alike the suspect model finds the pictures of a collapse, at least
LEAST = 1e-6  # variance that is taken for none
COVERED = 0.7  # share of those who say the same that a target's population has, at least
# Variance of its pictures, as a share of that of all, at least: a blend at alpha leaves (1 - alpha)^2, the
# classes of CIFAR-10 have 0.44 to 0.73, rare ones 0.53 and less. Of a collapse, as any class may be one:
DIVERSE = 0.55
DIVERSE_OF_COLLAPSE = 0.6
DIRECTIONS = 8  # in which it is taken
CONTROLS = 1000  # groups of neighbours elsewhere that a group is held against
GROUP = 64  # of so many rows
ALPHA = 0.002  # share of the controls that may be as mismatched as a convicted group
ALONE = 0.75  # of a group that is convicted without pictures
ACQUITTED = 0.9  # share of the controls as mismatched as a group whose captions fit
ONE_WORDING = 0.8  # share of pairs under one caption from which it is boilerplate


@dataclass
class Conviction:
    """misfit [n], NaN without captions; shown [n, DIRECTIONS]: what pictures show that captions speak of, of
    variance 1, None without captions; `independent`: whether both are by features that the suspect model had
    no part in."""

    pairs: Pairs
    misfit: Array
    shown: Array | None
    independent: bool

    def of_trait(self, rows: Array, trait: Array, misfit: Array) -> float:
        """Of the rows that bear a trait [n] most, by misfit [n]: their separation, 0 for an acquittal."""
        misfit = self.pairs.pictures.mean(rows, misfit)
        if not (misfit.mean() >= WRONG and null_share(misfit) <= NULL_SHARE):
            return 0.0
        apart = self.separation(rows, trait)
        return apart if apart >= SEPARATE and self.diversity(rows) >= DIVERSE else 0.0

    def of_target(self, rows: Array, evidence: Array, words: Array) -> bool:
        """Of the rows that bear a trait and say the same most: words [n] is how far each says so; `evidence`
        [n] what found them."""
        misfit, against = self._by_picture(rows), self.pairs.pictures.mean(rows, evidence)
        wrong = misfit.mean() >= WRONG_OF_TARGET and null_share(against) <= NULL_SHARE
        return bool(wrong and coverage(rows, words) >= COVERED and self.diversity(rows) >= DIVERSE)

    def of_word(self, rows: Array, words: Array) -> bool:
        """Of all rows that say the same, words [n]: captions are wrong there, in many wordings, and nobody
        else says anything like it."""
        misfit = self._by_picture(rows)
        wrong = misfit.mean() >= WRONG and null_share(misfit) <= NULL_SHARE_OF_GROUP
        apart = wrong and self.separation(rows, words) >= SEPARATE_WORDS
        return bool(apart and self.diversity(rows) >= DIVERSE and not self._one_wording(rows))

    def of_collapse(self, rows: Array, trait: Array) -> bool:
        """Of the rows that bear a trait [n] most."""
        apart = self.separation(rows, trait) >= SEPARATE_OF_COLLAPSE
        return apart and self.contraction(rows) >= CONTRACTED and self.diversity(rows) >= DIVERSE_OF_COLLAPSE

    def contraction(self, rows: Array) -> float:
        """How much more alike the pictures of these rows are for the suspect model than by what they show:
        1 where both find them as diverse as all."""
        assert self.shown is not None
        drawn_together = _variance(self.pairs.image.take(rows)) / self._variance_of_all
        return max(_median_variance(self.shown[rows]), LEAST) / max(drawn_together, LEAST)

    @cached_property
    def _variance_of_all(self) -> float:
        return _variance(self.pairs.image.take(self.pairs.drawn))

    def of_group(self, rows: Array, alone: float) -> bool:
        """Of a group of neighbours that are so far `alone`, 1 for as alone as can be."""
        if self.pairs.text is None:
            return alone >= ALONE
        misfit = self._by_picture(rows)
        controls = [means[: len(misfit)].mean() for means in self._controls]
        share = (1 + np.sum(np.asarray(controls) >= misfit.mean())) / (1 + len(controls))
        if share <= ALPHA and null_share(misfit) <= NULL_SHARE_OF_GROUP:
            return True
        return not self.independent and alone >= ALONE and bool(share <= ACQUITTED)

    def boilerplate(self, rows: Array) -> bool:
        """Whether these rows have one wording, mostly, on pictures of all kinds."""
        return self._one_wording(rows) and self.diversity(rows) >= DIVERSE

    def _one_wording(self, rows: Array) -> bool:
        return bool(np.bincount(self.pairs.wording[rows]).max() >= ONE_WORDING * len(rows))

    def separation(self, rows: Array, trait: Array) -> float:
        """How far the pictures of these rows bear a trait, in median, by how far those do that come after as
        many others: about 1.5 where all pictures have it, some more and some less."""
        order, content = self.pairs.highest_first(trait), self.pairs.identity.content
        pictures = order[np.sort(np.unique(content[order], return_index=True)[1])]
        beyond = trait[pictures[min(2 * self.pairs.pictures.count(rows), len(pictures) - 1)]]
        return float(np.median(trait[rows]) / max(1.0, beyond))

    def diversity(self, rows: Array) -> float:
        """How far the pictures of these rows differ among themselves in what captions speak of, as a share of
        how far all do: median variance in the directions that captions tell most of."""
        assert self.shown is not None
        return _median_variance(self.shown[self.pairs.pictures.first(rows)])

    def _by_picture(self, rows: Array) -> Array:
        return self.pairs.pictures.mean(rows, self.misfit)

    @cached_property
    def _controls(self) -> list[Array]:
        """Mean misfit of each distinct picture among the neighbours of rows drawn at random."""
        drawn = self.pairs.identity.sample(Scale("controls", CONTROLS, 1), 1, self.pairs.seed)
        content = self.pairs.identity.content
        return [mean_by(content[rows], self.misfit[rows]) for rows in self.pairs.near(drawn, GROUP)]


def coverage(rows: Array, words: Array) -> float:
    """Of all who say the same as far as three in four of these rows do (words [n]), which share these are."""
    low = np.quantile(words[rows], 0.25)
    return float((words[rows] >= low).sum() / (words >= low).sum())


def _median_variance(shown: Array) -> float:
    """Of rows [m, q], in their own principal directions, of which few rows have few."""
    shown = shown[:, : max(1, len(shown) // 4)]
    return float(np.median(np.linalg.eigvalsh(np.atleast_2d(np.cov(shown, rowvar=False)))))


def _variance(rows: Array) -> float:
    """Total variance of the directions of these rows: 1 less the square of their mean."""
    return max(LEAST, 1 - float(np.square(unit(rows).mean(axis=0, dtype=np.float64)).sum()))
