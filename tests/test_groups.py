"""Dense groups: what is a copy of what, and do their captions agree."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import clipscan
from clipscan.engine import as_rows
from clipscan.scores.groups import caption_agreement, components, copies, near_copies
from clipscan.scores.references import identify


def test_near_copies_are_grouped_and_ordinary_neighbours_are_not():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 24)).astype(np.float32)
    x[10:40] = x[10] + 0.01 * rng.standard_normal((30, 24))
    x[100:103] = x[100] + 0.01 * rng.standard_normal((3, 24))
    groups = near_copies(clipscan.knn(x, k=8))
    assert groups.size.tolist() == [30, 3]
    assert np.flatnonzero(groups.label == 0).tolist() == list(range(10, 40))
    assert np.flatnonzero(groups.label == 1).tolist() == [100, 101, 102]
    assert groups.bound > 0


def test_a_placeholder_with_more_copies_than_k_is_one_group():
    x = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    x[50:250] = x[50]
    groups = near_copies(clipscan.knn(x, k=4))
    assert groups.size.tolist() == [200]
    assert copies(identify(as_rows(x)).group).size.tolist() == [200]


def test_rows_that_are_all_equal_are_one_group():
    groups = near_copies(clipscan.knn(np.ones((20, 3), np.float32), k=3))
    assert groups.size.tolist() == [20] and groups.bound == 0


def test_a_set_without_copies_has_no_groups():
    x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    groups = near_copies(clipscan.knn(x, k=4))
    assert len(groups.size) == 0 and (groups.label == -1).all()


@settings(deadline=None)
@given(n=st.integers(1, 40), edges=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
def test_components_are_those_of_a_plain_search(n, edges):
    edges = [(a % n, b % n) for a, b in edges]
    plain = list(range(n))
    for _ in range(n):
        for a, b in edges:
            plain[a] = plain[b] = min(plain[a], plain[b])
    a, b = np.array(edges, np.int64).reshape(-1, 2).T
    assert components(n, a, b).tolist() == plain


def test_a_long_chain_is_one_component():
    chain = np.random.default_rng(0).permutation(10_000)
    assert (components(10_000, chain[:-1], chain[1:]) == 0).all()


def test_caption_agreement_is_the_mean_cosine_of_all_pairs():
    text = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    text[3] = 0  # a zero vector has cosine 0
    length = np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-30)
    cosine = (text / length) @ (text / length).T
    expected = (cosine.sum() - np.trace(cosine)) / (7 * 6)
    assert abs(caption_agreement(text) - expected) < 1e-6
    assert np.isnan(caption_agreement(text[:1]))
