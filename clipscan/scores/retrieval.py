"""Has a model learnt these very pairs? Each picture looks for its caption among others, each caption for its
picture.

Ranks are taken within one sample of pairs no two of which share a caption or a picture: an equal caption is
never a wrong one, and one that a third of the data has is asked for once. A wrong candidate as near as the
own one counts as nearer: a model that sends everything to one place finds nothing.

For a model that has learnt nothing the pairs are joined at random, whatever it makes of pictures and captions
by themselves: then on average `k` of a sample find theirs among the first k, however large the sample is, and
their number is Poisson's to a close approximation. A model has learnt something where both ways more pairs do
than chance allows at LEVEL.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from clipscan.engine.arrays import Array, unit
from clipscan.errors import InputError

PAIRS = 1000  # of a sample
FEW = 100  # pairs, below which the first 10 are too many to tell anything: the first counts alone
# One-sided: how often a model that has learnt nothing passes for one that has. So low, as a warning too many
# costs a look and one too few the whole scan: of 1,000 pairs 30 must find their own, where chance gives 10.
LEVEL = 1e-6
TIE = 1e-9  # cosines closer than this, of float64 sums, are equal


class Way(NamedTuple):
    """Of the pairs of a sample, how many find their own first, and among the first ten; the median rank."""

    first: int
    ten: int
    median: float

    @classmethod
    def of(cls, rank: Array) -> Way:
        return cls(int((rank <= 1).sum()), int((rank <= 10).sum()), float(np.median(rank)))


class Retrieval(NamedTuple):
    """Ranks in a sample of `pairs`: of captions for each picture, of pictures for each caption."""

    pairs: int
    captions: Way
    pictures: Way

    @property
    def within(self) -> int:
        """The rank up to which a pair counts as found."""
        return 10 if self.pairs >= FEW else 1

    @property
    def found(self) -> int:
        """The pairs that count as found the worse way."""
        ways = (self.captions, self.pictures)
        return min(way.ten if self.within == 10 else way.first for way in ways)

    @property
    def tells(self) -> bool:
        """Whether the sample is large enough for a model to show that it has learnt something."""
        return self.pairs >= least(self.within)

    @property
    def learnt(self) -> bool:
        """Whether more pairs find their own, both ways, than chance allows."""
        return self.found >= least(self.within)

    def record(self) -> dict[str, Any]:
        """Of JSON; `of` reads it."""
        shares = {"chance_at_1": min(1, 1 / self.pairs), "chance_at_10": min(1, 10 / self.pairs)}
        ways = {name: getattr(self, name)._asdict() for name in ("captions", "pictures")}
        return {"pairs": self.pairs, **ways, **shares, "learnt": self.learnt if self.tells else None}

    @classmethod
    def read(cls, record: Any) -> Retrieval | None:
        """What `record` made; None where it is no such thing."""
        try:
            return cls(int(record["pairs"]), Way(**record["captions"]), Way(**record["pictures"]))
        except (KeyError, TypeError, ValueError):
            return None

    def words(self) -> str:
        """Both ways, against chance; "" where there are too few pairs."""
        if not self.tells:
            return ""
        captions, pictures = self._ten(self.captions), self._ten(self.pictures)
        return (
            f"retrieval among {self.pairs:,} pairs: the own caption is among the first 10 for {captions}, "
            f"the own picture for {pictures}, by chance for {share(10, self.pairs)}"
        )

    def _ten(self, way: Way) -> str:
        return f"{share(way.ten, self.pairs)} (first for {share(way.first, self.pairs)})"

    @property
    def shortfall(self) -> str:
        """How near chance it is, in words."""
        rank = "first" if self.within == 1 else f"among the first {self.within}"
        return (
            f"{self.found} of {self.pairs:,} find their own {rank}, where chance alone gives {self.within}, "
            f"and {least(self.within)} once in {1 / LEVEL:,.0f} models"
        )

    def doubt(self) -> str:
        """What to tell whoever relies on this model; "" where it has learnt something."""
        if not self.tells:
            return (
                f"{self.pairs:,} pairs of different captions and pictures are too few to tell whether the "
                "model has learnt them: that nothing stands out may mean nothing"
            )
        if self.learnt:
            return ""
        return (
            f"THE MODEL HAS HARDLY LEARNT THESE PAIRS: {self.shortfall}. That nothing stands out then means "
            "nothing: train longer, and scan again"
        )


def retrieval(image: Array, text: Array) -> Retrieval:
    """[m, d] picture and caption vectors of pairs that share neither -> ranks by cosine. InputError for other
    shapes. A zero vector is as near to everything."""
    if image.ndim != 2 or image.shape != text.shape:
        raise InputError(f"retrieval takes pairs, got {image.shape} pictures and {text.shape} captions")
    cosine = unit(image.astype(np.float64)) @ unit(text.astype(np.float64)).T  # [pictures, captions]
    own = np.diagonal(cosine) - TIE
    captions, pictures = (cosine >= own[:, None]).sum(axis=1), (cosine >= own).sum(axis=0)
    return Retrieval(len(image), Way.of(captions), Way.of(pictures))


def different(order: Array, *labels: Array, count: int = PAIRS) -> Array:
    """The first `count` row numbers of `order` no two of which share a label of any of `labels`, each [n]."""
    for label in labels:
        order = order[np.sort(np.unique(label[order], return_index=True)[1])]
    return order[:count]


def least(mean: float, level: float = LEVEL) -> int:
    """The lowest number that a Poisson variable of this mean reaches with probability `level` at most."""
    term, below, number = math.exp(-mean), 0.0, 0
    while 1 - below > level:
        below += term
        number += 1
        term *= mean / number
    return number


def share(part: float, whole: int) -> str:
    """As a percentage, at most 100."""
    return f"{min(1, part / whole):.1%}"
