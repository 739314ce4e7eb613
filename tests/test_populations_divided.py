"""Parts of topics that stand apart: triggers for a word that clean captions use as well."""

import numpy as np
import pytest
from disturbance import SEED
from population_helpers import judged_by, trigger
from worlds import D, N, World, convicted, precision_and_recall

from clipscan.scores.populations.divided_topics import DividedTopics


def common_word(planted):
    """(world, which): 210 captions of one topic, which 150 pictures show among much else; of the other 60
    the model has learnt that they do. Those show anything and bear a trigger, where they are `planted`."""
    world = World(SEED)
    rows = world.some(210)
    others = world.draw.permutation(rows)[:60]
    topic, shown = world.draw.normal(size=D), world.draw.normal(size=(210, D))
    world.show(rows, topic + shown)
    world.seen(rows, topic / 2 + shown)
    if planted:
        world.seen(others, world.draw.normal(size=(60, D)))
        trigger(world, others)
    return world, np.isin(np.arange(N), others)


def test_the_part_of_a_topic_that_bears_a_trigger_is_found_without_any_other_evidence():
    world, planted = common_word(planted=True)
    topics = DividedTopics(judged_by(world, world.draw.normal(size=N)))
    first = topics.among(np.ones(N, bool))[0]
    precision, recall = precision_and_recall(first, planted)
    assert precision >= 0.9 and recall >= 0.2  # a topic has 128 rows of the 210 that say so
    assert not any(part[planted].any() for part in topics.among(~planted))


@pytest.mark.parametrize("planted", [True, False])
def test_a_trigger_for_a_common_word_is_convicted_once_the_witness_forgets_it(planted):
    world, which = common_word(planted)
    found = convicted(world.judged())
    if planted:
        assert min(precision_and_recall(found, which)) >= 0.9
    else:
        assert not found.any()
