"""Second populations: rows that belong together, and not to the clean pairs.

Five kinds of candidates, each found by one kind of evidence and convicted by others (conviction.py):

trait       what the pictures of the most mismatched pairs share (discriminant.py), or those of the most
            mismatched neighborhood of captions, as captions that name one word may be hardly odd each by
            itself, or a part of a topic that stands apart from its rest (divided_topics.py). The trait is
            learnt from other folds than those it is tried on, so clean pairs that bear it by chance are
            mismatched no oftener than usual. Of those that stand apart mismatch is asked of a witness that
            they have taught nothing. Of several the one that stands furthest apart is taken.
target      captions that say the same, and what their pictures share: both are learnt, in turn, from the
            neighborhoods of captions that all evidence together is against. A trigger that is half learnt
            shows a little in each kind of it, and each caption by itself is hardly odd.
collapse    captions that say the same, whose pictures the suspect model draws together far more than it does
            those of other captions, though they show as much as others do: a trigger that is learnt, however
            many pairs have it. Where those are many no single one of them is odd. It takes features that the
            suspect model had no part in.
density     rows that are nearest to one another by picture and caption, all of them far from everybody else.
            An honest rare topic is such a group as well.
captions    captions that say the same, most of them on pictures that they do not fit; of one wording only
            where these are of one kind, as boilerplate is on pictures of all. Or those of a target whose
            pictures share no trait that can be seen, such as a warp.

Where a population ends: change_point.py, of pictures in the order of their trait. Around a dense group
evidence is density, and whoever bears the trait is more alone in any case: there the first end is taken that
is hardly worse."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.populations.change_point import FEWEST
from clipscan.scores.populations.collapse import by_collapse
from clipscan.scores.populations.dense_groups import DenseGroups
from clipscan.scores.populations.divided_topics import DividedTopics
from clipscan.scores.populations.evidence import Evidence
from clipscan.scores.populations.population import Population, without_parts
from clipscan.scores.populations.traits import by_target, by_trait
from clipscan.scores.populations.wordings import by_captions

MANY = 16  # populations of a kind, at most

Find = Callable[[Array], list[tuple[Population, float]]]  # rows left [n] bool -> each, how far it stands out


class Populations:
    """Those that are found by the evidence."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._groups = DenseGroups(evidence)

    def found(self) -> list[Population]:
        """All populations; a row may be in several."""
        evidence = self.evidence
        if evidence.n < FEWEST:
            return []
        if evidence.pairs.text is None:
            return self._groups.found()
        # Every pair's own mismatch, and all evidence.
        mismatch = evidence.cross_modal + evidence.misfit
        against = neg_log_tail(evidence.misfit + evidence.cross_modal + evidence.density)
        return without_parts([
            *one_by_one(evidence.n, partial(by_trait, evidence, mismatch, DividedTopics(evidence))),
            *one_by_one(evidence.n, partial(by_target, evidence, against)),
            *one_by_one(evidence.n, partial(by_collapse, evidence)),
            *self._groups.found(),
            *by_captions(evidence, neg_log_tail(mismatch)),
        ])  # fmt: skip

    def lonely(self) -> Array:
        """How alone each row is, [n]: density, and of the most lonely ones that of their neighbours too."""
        return self._groups.lonely()


def one_by_one(n: int, find: Find) -> list[Population]:
    """What is found among the rows left, [n] bool: the one that stands out most, and so on."""
    found: list[Population] = []
    left = np.ones(n, bool)
    while len(found) < MANY and (several := find(left)):
        found.append(max(several, key=lambda pair: pair[1])[0])
        left[found[-1].rows] = False
    return found
