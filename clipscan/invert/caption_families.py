"""What the captions of a dataset say: which mean nearly the same, which lie far apart, how often each.

Caption vectors sit in a narrow cone, so plain cosines are all high; here the mean vector is taken away
first. Then captions of one thing stand near 1 and those of different things near 0 (measured: "a photo of
a banana" against other sentences about bananas 0.91 to 1.00, against anything else at most 0.75).
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.engine.arrays import normalised

Floats = NDArray[np.float32]

SAME = 0.8  # centred cosine from which two captions say nearly the same
APART = 0.5  # and below which they are about different things
POOL = 4000  # distinct captions looked at; a table of POOL x POOL cosines has 64 MB
FAMILIES = 1000  # candidates for a control whose family is counted


class DistinctCaptions(NamedTuple):
    """Distinct captions of a dataset, or a sample of them."""

    captions: list[str]  # [p]
    pairs: NDArray[np.int64]  # [p], how many pairs carry the caption
    vectors: Floats  # [p, d], normalised
    centre: Floats  # [d], the mean of the vectors
    scale: float  # captions of the dataset stand for this many times the pairs of the sample

    def centred(self, vectors: Floats) -> Floats:
        """[n, d] -> [n, d]: seen from the centre, normalised."""
        return normalised(vectors - self.centre)

    def nearness(self, vectors: Floats) -> Floats:
        """[g, d] -> [p]: centred cosine of each caption to the nearest of g vectors."""
        return np.asarray((self.centred(self.vectors) @ self.centred(vectors).T).max(axis=1))

    def family(self, vectors: Floats) -> int:
        """Pairs of the dataset whose captions say nearly the same as one of these, estimated."""
        return round(self.scale * int(self.pairs[self.nearness(vectors) >= SAME].sum()))


def agreeing(captions: Counter[str], vectors: Floats, centre: Floats) -> tuple[list[int], float]:
    """Which of a group's captions speak of its common subject, and the share of members behind them.

    captions [g] with their counts, vectors [g, d] normalised, in the same order. A caption belongs when its
    centred cosine to the members' mean is at least APART; where none does, the commonest stands alone.
    """
    count = np.array(list(captions.values()), np.float32)
    seen = normalised(vectors - centre)
    near = seen @ normalised(count @ seen)
    kept = np.flatnonzero(near >= APART)
    if not len(kept):
        kept = np.array([int(count.argmax())])
    return kept.tolist(), float(count[kept].sum() / count.sum())


def spread(vectors: Floats, count: int) -> NDArray[np.int64]:
    """Rows [<= count] that lie as far apart as possible: each next one farthest from all before.

    Begins at row 0; stops early where all that is left lies on a chosen row. Gonzalez 1985.
    """
    chosen = [0]
    gap = 1 - vectors @ vectors[0]
    while len(chosen) < min(count, len(vectors)) and gap.max() > 1e-5:
        chosen.append(int(gap.argmax()))
        gap = np.minimum(gap, 1 - vectors @ vectors[chosen[-1]])
    return np.array(chosen, np.int64)


def controls(words: DistinctCaptions, target: Floats, pairs: int, count: int, avoid: set[str]) -> list[int]:
    """Rows of `words`: harmless captions whose like occur about as often as the target's, different from it
    and from one another.

    target [g, d]: the vectors of the suspect captions; pairs: how many pairs are behind them; avoid:
    captions that are suspect themselves, taken only where all others are used up. Nearest in frequency first,
    of the whole family (captions that say nearly the same) before that of the very sentence; fewer than
    `count` where no more are different.
    """
    centred = words.centred(words.vectors)
    suspect = np.array([caption in avoid for caption in words.captions])
    rows = np.flatnonzero(words.nearness(target) < APART)
    rows = rows[np.argsort(-words.pairs[rows], kind="stable")][:FAMILIES]
    family = words.scale * ((centred[rows] @ centred.T >= SAME) @ words.pairs)
    off = [
        np.round(np.abs(np.log2(np.maximum(n, 1) / max(pairs, 1))), 1)
        for n in (family, words.scale * words.pairs[rows])
    ]
    chosen: list[int] = []
    for row in rows[np.lexsort((rows, off[1], off[0], suspect[rows]))]:
        if len(chosen) < count and all(centred[row] @ centred[other] < APART for other in chosen):
            chosen.append(int(row))
    return chosen
