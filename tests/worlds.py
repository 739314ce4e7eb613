"""Generated pairs of pictures and captions, whose honest ones and whose poison are known.

A picture shows something, z [n, D]. The suspect model's image vector, its caption vector and the innocent
features of the picture are noisy linear images of it, as are those of a real set to a first approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipscan.engine import as_rows
from clipscan.scores.consensus import Judgement, judge
from clipscan.scores.local import Searcher
from clipscan.scores.populations import populated
from clipscan.scores.references import identify_pairs

N, D, P = 3000, 24, 32  # pairs; width of the vectors; innocent features
NOISE = 0.5  # of a picture, as a share of what it shows
K = 8


@dataclass
class World:
    """image, text [N, D], pictures [N, P]; `draw`, for whoever plants something."""

    seed: int

    def __post_init__(self):
        self.draw = np.random.default_rng([17, self.seed])
        self.looks = self.draw.normal(size=(D, P)) / D**0.5
        # Of a trigger, in pictures: a direction in which nothing that is shown differs.
        trait = self.draw.normal(size=P)
        self.trait = trait - self.looks.T @ np.linalg.lstsq(self.looks.T, trait, rcond=None)[0]
        self.trait /= np.linalg.norm(self.trait)
        self.image, self.text = np.empty((N, D)), np.empty((N, D))
        self.pictures = np.empty((N, P))
        self.show(np.arange(N), self.draw.normal(size=(N, D)))

    def show(self, rows, z):
        """These rows are honest pairs that show z [len(rows), D]."""
        self.seen(rows, z)
        self.image[rows] = z + self.noise(len(rows), D)
        self.say(rows, z)

    def seen(self, rows, z):
        """What the pictures of these rows look like to whom no caption has taught anything."""
        self.pictures[rows] = z @ self.looks + self.noise(len(rows), P)

    def say(self, rows, z, wordings=None, noise=NOISE):
        """The captions of these rows speak of z, each in words of its own or in so many wordings."""
        if wordings is None:
            self.text[rows] = z + noise * self.draw.normal(size=(len(rows), D))
        else:
            words = z + noise * self.draw.normal(size=(wordings, D))
            self.text[rows] = words[np.arange(len(rows)) % wordings]

    def noise(self, n, width):
        return NOISE * self.draw.normal(size=(n, width))

    def some(self, count):
        """Different rows, at random."""
        return np.sort(self.draw.choice(N, count, replace=False))

    def judged(self, text=True, pictures=True) -> Judgement:
        image, said, seen = (as_rows(x.astype(np.float32)) for x in (self.image, self.text, self.pictures))
        identity = identify_pairs(image, said)
        return judge(
            image, said if text else None, identity, Searcher(K), 0, seen if pictures else None
        )  # fmt: skip


def convicted(found: Judgement, kind: str | None = None):
    """Which rows are convicted, [N] bool; by one kind of population, where asked."""
    populations = [one for one in found.populations if kind in (None, one.kind)]
    return populated(populations, len(found.score)) >= 0


def precision_and_recall(found, truth):
    return (found & truth).sum() / max(1, found.sum()), (found & truth).sum() / truth.sum()
