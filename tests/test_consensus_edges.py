"""What consensus promises at the edges: finite scores, nobody convicted, refusals in words."""

import numpy as np
import pytest
from consensus_helpers import SMALL, K, pairs, scored

from clipscan.errors import InputError
from clipscan.scores import consensus
from clipscan.scores.estimate import NOBODY, estimate_of

EDGES = {
    "all as they are": lambda image, text, pictures: None,
    "all pairs equal": lambda *given: [np.copyto(x, x[0]) for x in given],
    "one caption for all": lambda image, text, pictures: np.copyto(text, text[0]),
    "two captions": lambda image, text, pictures: np.copyto(text, text[np.arange(len(text)) % 2]),
    "one picture": lambda image, text, pictures: [np.copyto(x, x[0]) for x in (image, pictures)],
    "features that say nothing": lambda image, text, pictures: np.copyto(pictures, 1),
    "every pair twice": lambda *given: [np.copyto(x[-(len(x) // 2) :], x[: len(x) // 2]) for x in given],
    "no caption": lambda image, text, pictures: np.copyto(text, 0),
    "some zero vectors": lambda *given: [np.copyto(x[::9], 0) for x in given],
    "all zero": lambda *given: [np.copyto(x, 0) for x in given],
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [2, 3, 11, 12, 13, 17, 40, SMALL])
@pytest.mark.parametrize("case", EDGES)
def test_at_the_edges_scores_are_finite_and_nobody_is_convicted(case, n):
    image, text, pictures = pairs(n)
    EDGES[case](image, text, pictures)
    k = 16 if n == 17 else min(K, n - 1)
    for given in ((image, text, pictures), (image, text), (image,)):
        found = scored(*given, k=k)
        assert all(np.isfinite(column).all() for column in found.columns.values())
        assert found.record["populations"] == []
        assert estimate_of("consensus", found["consensus"]) == NOBODY
    if case in ("all pairs equal", "all zero"):
        assert np.ptp(scored(image, text, pictures, k=k)["consensus"]) == 0


def test_too_few_rows_for_k_are_refused_in_words():
    image, text, pictures = pairs(16)
    with pytest.raises(InputError, match="k=16 neighbours need more than k rows, the embeddings have 16"):
        scored(image, text, pictures, k=16)


def test_consensus_keeps_its_sizes():
    assert (consensus.SIZES, consensus.LONELY) == ({8: 8, 32: 4, 128: 2}, 1.5)
