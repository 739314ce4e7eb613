"""Captions to lead to: those of the suspect group, and of the harmless controls."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from clipscan.embed.model import Encoder
from clipscan.engine.arrays import normalised
from clipscan.invert.caption_families import DistinctCaptions, agreeing, controls
from clipscan.invert.contest import Target
from clipscan.invert.source import SuspectGroup
from clipscan.run.markers import check_intact

CAPTIONS = 64  # of a group, the commonest, that may count as its own


def group_target(encoder: Encoder, words: DistinctCaptions, group: SuspectGroup) -> tuple[Target, float]:
    """What the group's captions have in common, and the share of its members that is behind it."""
    captions = Counter(dict(group.captions.most_common(CAPTIONS)))
    vectors = normalised(encoder.encode_texts(list(captions)))
    kept, share = agreeing(captions, vectors, words.centre)
    vectors = vectors[kept]
    pairs = max(words.family(vectors), group.size)
    return Target([list(captions)[row] for row in kept], pairs, vectors), share


def caption_target(encoder: Encoder, words: DistinctCaptions, caption: str) -> Target:
    """One caption that the user names; it need not be in the dataset."""
    vectors = normalised(encoder.encode_texts([caption]))
    return Target([caption], words.family(vectors), vectors)


def control_targets(run: Path, words: DistinctCaptions, target: Target, count: int) -> list[Target]:
    """Harmless captions whose like occur about as often; none that a member of a suspect group has."""
    rows = controls(words, target.vectors, target.pairs, count, _captions_of_groups(run))
    found = []
    for row in rows:
        vectors = words.vectors[row : row + 1]
        found.append(Target([words.captions[row]], words.family(vectors), vectors))
    return found


def _captions_of_groups(run: Path) -> set[str]:
    """One of these as a control might be another trigger's."""
    path = run / "groups.parquet"
    check_intact(path)
    rows = pq.read_table(path, columns=["members"])["members"].to_pylist() if path.exists() else []
    return {member["caption"] for members in rows for member in members or () if member["caption"]}
