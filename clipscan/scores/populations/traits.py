"""trait and target: what the pictures of mismatched pairs share."""

from __future__ import annotations

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.neg_log_tail import neg_log_tail, neg_log_tails
from clipscan.scores.populations.change_point import FEWEST
from clipscan.scores.populations.conviction import DIVERSE, SEPARATE
from clipscan.scores.populations.discriminant import AGAIN, bearing
from clipscan.scores.populations.divided_topics import DividedTopics
from clipscan.scores.populations.evidence import BEYOND, Evidence
from clipscan.scores.populations.population import Population
from clipscan.scores.populations.topics import accused

SAID = 4.0  # robust deviations by which a population's words are its own
NEARLY_ALL = 0.75  # of its captions say them
EQUAL = 0.9  # of the rows that two traits are learnt from: they are one trait
COMMON = 0.1  # share of the rows that bear a trait as all pictures do, more and less


def by_trait(
    evidence: Evidence, mismatch: Array, divided: DividedTopics, left: Array
) -> list[tuple[Population, float]]:
    """What the pictures of the most mismatched pairs ([n]: how far) share, or those of a part of a topic,
    among the rows `left` ([n] bool); and how far each population stands apart."""
    mismatch = np.where(left, mismatch, 0.0)
    seeds = [
        evidence.top(mismatch),
        *accused(evidence, mismatch, evidence.misfit, left),
        *divided.among(left),
    ]
    for _ in range(AGAIN):
        seeds = [
            evidence.top(np.where(left, neg_log_tail(one) + evidence.misfit, 0.0))
            for one in evidence.trait.each(_different(seeds))
        ]
    seeds = _different(seeds)
    traits = evidence.trait.each(seeds)
    found = []
    for trait in np.where(left, traits, traits.min()):
        misfit = _misfit(evidence, trait)
        one = evidence.up_to_change("trait", trait, misfit, trait)
        if one and (apart := evidence.conviction.of_trait(one.rows[: one.number], trait, misfit)):
            found.append((_of_one_word(evidence, one, trait), apart))
    return found


def _different(seeds: list[Array]) -> list[Array]:
    """Those of which not nearly all rows are in one before, each [n] bool."""
    found: list[Array] = []
    for one in seeds:
        if all((one & other).sum() < EQUAL * one.sum() for other in found):
            found.append(one)
    return found


def _misfit(evidence: Evidence, trait: Array) -> Array:
    """misfit [n], where those who bear a trait [n] stand apart by a witness that they have taught nothing: a
    trigger that is trusted by mistake teaches that its captions fit."""
    count = int(bearing(trait, evidence.top(trait)).sum())
    if count > COMMON * evidence.n:
        return evidence.misfit
    order = evidence.pairs.highest_first(trait, most=BEYOND * count)
    borne, conviction = order[:count], evidence.conviction
    apart = conviction.separation(borne, trait) >= SEPARATE and conviction.diversity(borne) >= DIVERSE
    return evidence.misfit_untaught(borne, order) if apart else evidence.misfit


def _of_one_word(evidence: Evidence, one: Population, trait: Array) -> Population:
    """Where nearly all of its captions say what hardly any other does, those that do not only may belong to a
    population."""
    rows = one.rows[: one.number]
    words = evidence.words.of(evidence.chosen(rows))
    saying = bearing(words, rows)[rows]
    if np.median(words[rows]) < SAID or saying.mean() < NEARLY_ALL or saying.all():
        return one
    rows = np.concatenate([rows[saying], rows[~saying], one.rows[one.number :]])
    fewest, number = int(saying[: one.fewest].sum()), int(saying.sum())
    less = evidence.population(one.kind, rows, fewest, number, evidence.misfit, trait)
    return less if less.pictures >= FEWEST else one


def by_target(evidence: Evidence, against: Array, left: Array) -> list[tuple[Population, float]]:
    """Captions that say the same, on pictures that share a trait or that they do not fit; `against` [n]: all
    evidence together."""
    pairs, conviction = evidence.pairs, evidence.conviction
    chosen = accused(evidence, np.where(left, against, 0.0), against, left)
    if not chosen:
        return []
    for again in range(1 + AGAIN):
        traits, words = evidence.trait.each(chosen), evidence.words.each(chosen)
        both = np.where(left, neg_log_tails(traits) + neg_log_tails(words), 0.0)
        if again < AGAIN:
            chosen = [evidence.top(np.where(left, one + against, 0.0)) for one in both]
    found = []
    for seeds, borne, said in zip(chosen, both, words, strict=True):
        one = evidence.up_to_change("target", borne, against)
        if one and conviction.of_target(one.rows[: one.number], against, said):
            found.append((one, float(borne[one.rows[: one.number]].sum())))
        rows = pairs.highest_first(said, np.flatnonzero(left & bearing(said, seeds)))
        if evidence.pictures.count(rows) >= FEWEST and conviction.of_word(rows, said):
            one = evidence.population("captions", rows, len(rows), len(rows), evidence.misfit, borne)
            found.append((one, float(borne[rows].sum())))
    return found
