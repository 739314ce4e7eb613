"""Topics: neighborhoods of captions, each of another meaning."""

from __future__ import annotations

import numpy as np

from clipscan.engine.arrays import Array
from clipscan.scores.populations.change_point import FEWEST
from clipscan.scores.populations.evidence import ASKED, TOPIC, Evidence

TOPICS = 4
ODD = 0.1  # share of the rows whose neighborhoods are looked at
SHARED = 0.5  # of a topic's rows in topics before it, at most


def accused(evidence: Evidence, mismatch: Array, against: Array, left: Array) -> list[Array]:
    """Of the most mismatched captions the topics that most is `against` on average, among the rows `left`
    ([n] bool); each [n] bool."""
    asked = evidence.pairs.highest_first(mismatch, most=max(FEWEST, round(ODD * evidence.n)))
    asked = asked[:: -(-len(asked) // ASKED)]
    near = evidence.pairs.alike(asked, TOPIC)
    return different(evidence, asked, near, (left * against)[near].mean(axis=1), left)


def different(evidence: Evidence, asked: Array, near: Array, values: Array, left: Array) -> list[Array]:
    """Of neighborhoods of captions [m, TOPIC], around those `asked` [m], those of the highest values [m],
    each of another meaning, [n] bool."""
    pairs = evidence.pairs
    said = pairs.said.take(asked)
    topics: list[Array] = []
    taken = np.zeros(evidence.n, bool)
    others = np.ones(len(asked), bool)  # that say something else than all topics before
    for one in np.lexsort((pairs.identity.code[asked], -values)):
        rows = near[one][left[near[one]]]
        if others[one] and len(rows) >= FEWEST and taken[rows].mean() <= SHARED:
            topics.append(evidence.chosen(rows))
            taken |= topics[-1]
            others &= np.linalg.norm(said - said[one], axis=1) > pairs.same
        if len(topics) == TOPICS:
            break
    return topics
