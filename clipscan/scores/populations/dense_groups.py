"""density: near neighbours by picture and caption, all of them far from everybody else."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.groups import components
from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.pictures import MOST
from clipscan.scores.populations.change_point import FEWEST
from clipscan.scores.populations.evidence import Evidence
from clipscan.scores.populations.population import Population

COMPANY = 2.0  # weight of the density of neighbours beside the own one
CANDIDATES = 0.02  # of the rows, by density; and at most MOST
ROUNDS = 8  # of growing
ALONE = 0.45  # of a group that is a candidate


class DenseGroups:
    """Groups among the rows that are most alone."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence, self.pairs, self.density = evidence, evidence.pairs, evidence.density

    def found(self) -> list[Population]:
        """Those that are convicted."""
        rows, index, company = self._alone
        chosen = np.lexsort((self.pairs.identity.code[rows], -(self.density[rows] + COMPANY * company)))
        chosen = chosen[: len(rows) // 2]
        candidate = self.evidence.chosen(rows[chosen])
        label = components(self.evidence.n, *_mutual(rows[chosen], index[chosen], candidate))
        members = [np.flatnonzero((label == one) & candidate) for one in np.unique(label[candidate])]
        aloneness = dict(zip(rows.tolist(), company.tolist(), strict=True))
        found = []
        for group in members:
            if len(group) < FEWEST or self.evidence.pictures.count(group) < FEWEST:
                continue
            alone = float(np.mean([aloneness[row] for row in group.tolist()]))
            alone /= 1 - np.log(len(group) / self.evidence.n)  # what it is if no other row is as alone
            if alone >= ALONE and self.evidence.conviction.of_group(group, alone):
                found.append(self._grown(group))
        return found

    def lonely(self) -> Array:
        """Density [n]; of the rows that are most alone by how alone they and their neighbours are, as an odd
        picture has usual neighbours, and planted ones have one another."""
        rows, _, company = self._alone
        others = np.delete(self.density, rows)
        above = self.density[rows] > others.max(initial=-np.inf)  # equal rows stay equal
        rows, company = rows[above], company[above]
        found = self.density.copy()
        share = len(rows) / self.evidence.n
        found[rows] = neg_log_tail(self.density[rows] + COMPANY * company) - np.log(share or 1.0)
        return found

    @cached_property
    def _alone(self) -> tuple[Array, Array, Array]:
        """The rows that are most alone, [m]; their neighbours by picture and caption, [m, k]; and how alone
        these are on average."""
        count = min(MOST, max(FEWEST, round(2 * CANDIDATES * self.evidence.n)))
        rows = np.sort(self.pairs.highest_first(self.density, most=count))
        index = self.pairs.near(rows)
        return rows, index, self.density[index].mean(axis=1)

    def _grown(self, group: Array) -> Population:
        """A group, all rows half of whose neighbours are of it, and what bears its trait and is alone."""
        inside = self.evidence.chosen(group)
        asked = group
        for _ in range(ROUNDS):
            asked = np.setdiff1d(self.pairs.near(asked), np.flatnonzero(inside))
            if not len(asked):
                break
            asked = asked[inside[self.pairs.near(asked)].mean(axis=1) >= 1 / 2]
            if not len(asked):
                break
            inside[asked] = True
        trait = self.evidence.trait.of(inside)
        alike = self.evidence.up_to_change("density", trait, self.density)
        added = np.setdiff1d(np.flatnonzero(inside), group)
        may = np.zeros(0, np.int64)
        if alike:
            added = np.union1d(added, np.setdiff1d(alike.rows[: alike.fewest], group))
            may = np.setdiff1d(alike.rows, np.union1d(added, group))
        rows = np.concatenate([self.pairs.highest_first(self.density, part) for part in (group, added, may)])
        number = len(group) + len(added)
        return self.evidence.population("density", rows, len(group), number, self.evidence.misfit, trait)


def _mutual(rows: Array, index: Array, among: Array) -> tuple[Array, Array]:
    """Edges (a, b) between rows [m], all `among`, that are neighbours of each other: index [m, k]."""
    a, b = np.repeat(rows, index.shape[1]), index.ravel()
    kept = (b >= 0) & among[b]
    a, b = a[kept].astype(np.int64), b[kept].astype(np.int64)
    mutual = np.isin(b * len(among) + a, a * len(among) + b)
    return a[mutual], b[mutual]
