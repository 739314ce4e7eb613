"""Planted traits, and how populations are judged by them."""

import numpy as np
from worlds import K, N

from clipscan.engine import as_rows
from clipscan.scores.local import Searcher
from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.pairs import Pairs
from clipscan.scores.populations import Evidence
from clipscan.scores.references import identify_pairs
from clipscan.scores.scaled import Scaled, fitted_rows


def trigger(world, rows):
    """The pictures of these rows bear what no caption speaks of."""
    world.pictures[rows] += 6 * world.trait


def judged_by(world, misfit):
    """The evidence where a witness says `misfit` [N], and the other scores say nothing."""
    image, text, pictures = (as_rows(x.astype(np.float32)) for x in (world.image, world.text, world.pictures))
    identity = identify_pairs(image, text)
    features = Scaled([pictures, image], fitted_rows(identity.code))
    others = (neg_log_tail(world.draw.normal(size=N)) for _ in range(2))
    shown = world.pictures @ np.linalg.pinv(world.looks)
    pairs = Pairs(image, text, pictures, identity, Searcher(K))
    shown /= shown.std(axis=0)
    return Evidence(pairs, features, *others, neg_log_tail(misfit), shown, True)
