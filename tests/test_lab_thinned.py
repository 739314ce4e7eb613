"""Few pairs of a kind: so many are kept, everybody else is, and each can still be fetched by itself."""

from clipscan.data import Sample
from clipscan.lab.attacks.prompts import mentions
from clipscan.lab.grid.thinned import Thinned
from clipscan.lab.scenes.dataset import Scenes


def captions(dataset):
    samples = [one for shard in dataset.shards for one in dataset.read(shard) if isinstance(one, Sample)]
    return {(one.shard, one.key): one.caption for one in samples}


def test_of_the_pairs_that_name_a_word_only_so_many_are_kept_the_first():
    whole = Scenes(240, seed=3, per_shard=100)
    before = captions(whole)
    named = [at for at, caption in before.items() if mentions(caption, "circle")]
    others = [at for at, caption in before.items() if not mentions(caption, "circle")]
    assert len(named) > 9 and others
    thin = Thinned(whole, {"circle": 4})
    assert captions(thin) == {at: before[at] for at in before if at in [*named[:4], *others]}
    assert thin.shards == whole.shards and "4 of 'circle'" in thin.source
    assert captions(Thinned(whole, {"circle": 0})) == {at: before[at] for at in others}


def test_a_caption_that_names_two_words_counts_for_both():
    whole = Scenes(240, seed=3, per_shard=100)
    thin = captions(Thinned(whole, {"circle": 5, "square": 2}))
    assert sum(mentions(caption, "circle") for caption in thin.values()) <= 5
    assert sum(mentions(caption, "square") for caption in thin.values()) == 2


def test_a_sample_is_fetched_from_a_thinned_shard():
    thin = Thinned(Scenes(40, seed=3), {"circle": 1})
    (shard,) = thin.shards
    last = list(thin.read(shard))[-1]
    (fetched,) = thin.fetch(shard, {last.key: last.at})
    assert fetched == last
