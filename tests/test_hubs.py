"""Hub counts: how often a row is somebody's neighbour, and how the count becomes a suspicion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clipscan
from clipscan.engine import Neighbors
from clipscan.scores import FROM_GRAPH
from clipscan.scores.hubs import anti_hubs, hubness


def test_a_star_has_one_hub_and_its_points_are_nobodys_neighbour():
    centre, points = np.zeros((1, 8)), 10 * np.eye(8)  # 10 from the centre, 14.1 from each other
    graph = clipscan.knn(np.concatenate([centre, points]).astype(np.float32), k=1)
    assert hubness(graph).tolist() == [8, 1, 0, 0, 0, 0, 0, 0, 0]
    assert clipscan.score(graph=graph, method="antihub").scores.tolist() == [1 / 9, 1 / 2] + [1.0] * 7


@settings(deadline=None, max_examples=25)
@given(n=st.integers(4, 50), grid=st.sampled_from([0, 1, 3]), seed=st.integers(0, 99))
def test_counts_are_those_of_looking_through_every_list(n, grid, seed):
    x = np.random.default_rng(seed).standard_normal((n, 3)).astype(np.float32)
    x = np.round(x * grid) / grid if grid else x
    graph = clipscan.knn(x, k=1 + seed % (n - 1))
    assert hubness(graph).tolist() == [int((graph.index == row).sum()) for row in range(n)]
    assert hubness(graph).sum() == n * graph.k
    assert ((anti_hubs(graph) > 0) & (anti_hubs(graph) <= 1)).all()


def test_a_row_far_from_all_others_is_the_most_suspicious():
    x = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    x[17] *= 9
    found = clipscan.score(graph=clipscan.knn(x, k=10), method="antihub")
    assert found.scores[17] == 1 == found.scores.max()


def test_nobody_is_not_counted():
    graph = Neighbors(np.array([[1.0, np.inf], [1.0, np.inf]], np.float32), np.array([[1, -1], [0, -1]]))
    assert hubness(graph).tolist() == [1, 1]


def test_copies_share_their_count_so_that_the_order_of_rows_means_nothing():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 5)).astype(np.float32)
    x[20:40] = x[20]  # 20 copies, k = 4: only five of them stand in any list
    graph = clipscan.knn(x, k=4)
    assert sorted(hubness(graph)[20:40])[:15] == [0] * 15
    score = anti_hubs(graph)
    assert len(set(score[20:40])) == 1 and score[20] <= 1 / (1 + graph.k)
    order = rng.permutation(60)
    assert (anti_hubs(clipscan.knn(x[order], k=4)) == score[order]).all()


def test_all_scores_of_a_graph_include_the_hubs_and_other_inputs_say_what_is_missing():
    x = np.random.default_rng(2).standard_normal((40, 4)).astype(np.float32)
    graph = clipscan.knn(x, k=3)
    assert tuple(clipscan.score(graph=graph, method="all").columns) == FROM_GRAPH
    with pytest.raises(clipscan.InputError, match=r"'antihub' is counted in a graph.*clipscan\.knn"):
        clipscan.score(x, method="antihub", k=3)
    with pytest.raises(clipscan.InputError, match="'trusted' comes from a second model"):
        clipscan.score(x, method=["dao", "trusted"], k=3)
    with pytest.raises(clipscan.InputError, match="cosine cannot be computed from a graph"):
        clipscan.score(graph=graph, method="cosine")
    with pytest.raises(clipscan.InputError, match="no method"):
        clipscan.score(graph=graph, method=[])
