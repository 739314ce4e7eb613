"""What is known of every row, and how far a population reaches by it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.pairs import Pairs
from clipscan.scores.pictures import mean_by
from clipscan.scores.populations.change_point import FEWEST, Shown, ends, likelihoods, null_share, strength
from clipscan.scores.populations.conviction import Conviction
from clipscan.scores.populations.discriminant import Discriminant
from clipscan.scores.populations.population import Population
from clipscan.scores.scaled import Scaled
from clipscan.scores.witness import Witness

SEEDS = (24, 0.005)  # candidates that a trait is learnt from: at least so many, and this share of the rows
STRENGTH = 12.0  # of the evidence for a population (change_point.py), at least
COPIES = 8  # times as many rows are looked through, so that copies of one picture do not fill the seeds
ASKED, TOPIC = 1024, 128  # rows whose neighborhoods of captions are looked at, at most; captions of each
BEYOND = 4  # times as many rows as a population has are looked through, for near-copies and for its misfit


@dataclass
class Evidence:
    """What populations are found in. All [n]: negative log tails of density, of the cross-modal scores and of
    misfit; `independent`: whether misfit is by features that the suspect model had no part in."""

    pairs: Pairs
    features: Scaled  # of pictures, and of the suspect model's image vectors
    density: Array
    cross_modal: Array
    misfit: Array  # NaN without captions
    shown: Array | None  # [n, q] what pictures show that captions speak of; None without captions
    independent: bool
    asked: Array | None = (
        None  # [n] what the witness said, of which misfit is the tail; None without captions
    )
    witness: Witness | None = None

    def __post_init__(self) -> None:
        self.n, self.picture = self.pairs.n, self.pairs.identity.content
        self.pictures = self.pairs.pictures
        self.trait = Discriminant(self.features, self.picture, self.pairs.identity.code)
        self.conviction = Conviction(self.pairs, self.misfit, self.shown, self.independent)
        self._seeds = min(self.n // 4, max(SEEDS[0], round(SEEDS[1] * self.n)))

    @cached_property
    def words(self) -> Discriminant:
        """Linear discriminants of captions."""
        said = Scaled([self.pairs.said], self.features.fitted)
        return Discriminant(said, self.picture, self.pairs.identity.code)

    @cached_property
    def drawn_topics(self) -> tuple[Array, Array]:
        """Rows drawn at random [m], at most ASKED, and the neighborhoods of their captions [m, TOPIC]."""
        asked = self.pairs.highest_first(np.zeros(self.n), most=ASKED)
        return asked, self.pairs.alike(asked, TOPIC)

    def top(self, values: Array) -> Array:
        """The rows of highest value, of copies and near-copies of a picture only the first, [n] bool.
        Near-copies are looked for among as many of the highest as it takes to fill the seeds."""
        highest = self.pairs.highest_first(values, most=COPIES * self._seeds)
        looked_at = 2 * self._seeds  # mostly enough: near-copies are rare
        while len(found := self.pictures.first(highest[:looked_at])) < self._seeds:
            if looked_at >= len(highest):
                break
            looked_at *= 2
        return self.chosen(found[: self._seeds])

    def chosen(self, rows: Array) -> Array:
        """[n] bool: which rows these are."""
        chosen = np.zeros(self.n, bool)
        chosen[rows] = True
        return chosen

    def misfit_untaught(self, rows: Array, asked: Array) -> Array:
        """misfit [n] by a witness that these rows have taught nothing; of those `asked` alone found anew."""
        if self.witness is None or self.asked is None:
            return self.misfit
        found = self.asked.copy()
        found[asked] = self.witness.without(self.chosen(rows), asked)
        return neg_log_tail(found)

    def up_to_change(
        self, kind: str, order_by: Array, against: Array, trait: Array | None = None
    ) -> Population | None:
        """The rows that are highest in `order_by`, up to where evidence `against` them falls to that of clean
        rows and, of a `trait`, none bears it less than half as much as they do in median; None for too few.
        Pictures one of whose captions fits are no members."""
        order = self.pairs.highest_first(order_by)
        shown = Shown.of(self.picture[order], against[order])
        if strength(shown.evidence) < STRENGTH:
            return None  # near-copies would only take from it
        end = int(shown.last[likelihoods(shown.evidence).argmax()]) + 1
        shown = Shown.of(self.pictures.distinct(order, BEYOND * max(end, FEWEST)), against[order])
        total = likelihoods(shown.evidence)
        if strength(shown.evidence) < STRENGTH:
            return None
        members = np.cumsum(~shown.honest)
        fewest, number, most = (int(members[shown.last[end]]) for end in ends(total))
        rows = order[~shown.honest][:most]
        if trait is not None:
            number = min(number, int((trait[rows] >= np.median(trait[rows[:number]]) / 2).sum()))
        one = self.population(kind, rows, min(fewest, number), number, against, order_by)
        return one if one.pictures >= FEWEST else None

    def population(
        self, kind: str, rows: Array, fewest: int, number: int, against: Array, trait: Array | None = None
    ) -> Population:
        """Of rows, surest first; how many clean ones are among the `number` is estimated by what is `against`
        them."""
        shown = self.pictures.distinct(rows[:number])
        misfit, evidence = (mean_by(shown, values[rows[:number]]) for values in (self.misfit, against))
        figures = (len(misfit), float(misfit.mean()), null_share(evidence))
        bearing = np.zeros(self.n) if trait is None else neg_log_tail(trait)
        return Population(kind, rows, fewest, number, len(rows), *figures, bearing)
