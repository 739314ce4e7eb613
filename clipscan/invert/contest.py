"""A contest of captions: which of them is a picture nearest to? One side's captions are the target's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.errors import RunError
from clipscan.invert.caption_families import SAME, DistinctCaptions, Floats, spread

RIVALS = 500  # captions of the dataset, spread over the text space, that a picture may choose instead
FEW_RIVALS = 2  # with fewer there is no choice


class Target(NamedTuple):
    """Captions that a recovered trigger shall lead to."""

    captions: list[str]
    pairs: int  # of the dataset, behind captions that say nearly the same
    vectors: Floats  # [g, d], normalised


class Contest(NamedTuple):
    """The target's captions first, then its rivals."""

    text: Floats  # [g + r, d], normalised
    own: int  # g

    def won(self, image: Floats) -> NDArray[np.bool_]:
        """Raw image vectors [n, d] -> [n]: is the nearest caption one of the target's?"""
        return np.asarray((image @ self.text.T).argmax(axis=1) < self.own)


def contest(target: Target, words: DistinctCaptions) -> Contest:
    """The target against captions spread over all that the dataset says.

    Rivals that say nearly the same as a target caption are left out: they are neither right nor wrong.
    RunError where fewer than FEW_RIVALS remain.
    """
    rivals = words.vectors[spread(words.vectors, RIVALS + len(target.captions))]
    near = (words.centred(rivals) @ words.centred(target.vectors).T).max(axis=1)
    rivals = rivals[near < SAME][:RIVALS]
    if len(rivals) < FEW_RIVALS:
        raise RunError(
            f"the target's captions cover all that this dataset says ({len(rivals)} captions differ from "
            "them): there is nothing to tell a success by"
        )
    return Contest(np.concatenate([target.vectors, rivals]), len(target.captions))
