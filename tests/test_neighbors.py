"""Neighbour tables: merging them, and the same neighbours in every form that they are given out in."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knn_helpers import rows

from clipscan.engine import Neighbors, knn
from clipscan.errors import InputError


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), cut=st.lists(st.integers(1, 39), min_size=2, max_size=2, unique=True))
def test_merge_is_associative_and_idempotent(seed, cut):
    y = np.round(rows(40, 3, seed) * 2) / 2
    x, (low, high) = rows(12, 3, seed + 1), sorted(cut)

    def part(first, last):
        table = knn(x, y[first:last], k=min(5, last - first))
        missing = ((0, 0), (0, 5 - table.k))
        distance = np.pad(table.distance, missing, constant_values=np.inf)
        return Neighbors(distance, np.pad(table.index + first, missing, constant_values=-1))

    a, b, c, whole = part(0, low), part(low, high), part(high, 40), part(0, 40)
    for merged in (
        Neighbors.merge(Neighbors.merge(a, b), c),
        Neighbors.merge(a, Neighbors.merge(c, b)),
        Neighbors.merge(whole, a),
        Neighbors.merge(whole, whole),
    ):
        assert (merged.index == whole.index).all() and (merged.distance == whole.distance).all()


def test_graph_exports_hold_the_same_neighbours():
    scipy_sparse = pytest.importorskip(
        "scipy.sparse", reason="needs scipy (with scikit-learn in the dev extra)"
    )
    x = rows(25, 4)
    graph = knn(x, k=3)
    matrix = scipy_sparse.csr_matrix(graph.to_csr(arrays=True), shape=(25, 25))
    assert matrix[2, graph.index[2, 1]] == graph.distance[2, 1]
    assert isinstance(graph.to_csr(), scipy_sparse.csr_matrix) and (graph.to_csr() != matrix).nnz == 0
    assert knn(x[:4], x, k=3).to_csr().shape == (4, 25) and graph.map(np.copy).to_csr().shape == (25, 25)
    bare = Neighbors(graph.distance, graph.index)
    assert bare.to_csr(columns=30).shape == (25, 30)
    with pytest.raises(InputError, match=r"to_csr\(columns=m\)"):
        bare.to_csr()
    index, distance, _ = graph.to_umap()
    assert (index[:, 0] == np.arange(25)).all() and (distance[:, 0] == 0).all()
    assert (index[:, 1:] == graph.index).all() and (distance[:, 1:] == graph.distance).all()
    assert (
        index.shape == distance.shape == (25, 3 + 1)
    )  # UMAP's n_neighbors is k + 1: it counts the row itself


def test_umap_finds_the_same_graph_from_our_table_as_by_itself():
    umap = pytest.importorskip("umap", reason="needs umap-learn: pip install 'clipscan[map]'")
    x, k = rows(200, 8), 9
    how = {"n_neighbors": k + 1, "n_epochs": 1, "random_state": 0}
    ours = umap.UMAP(precomputed_knn=knn(x, k=k).to_umap(), **how).fit(x)
    difference = ours.graph_ - umap.UMAP(**how).fit(x).graph_
    assert abs(difference).max() < 1e-4


def test_without_scipy_a_graph_is_three_arrays(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    graph = knn(rows(25, 4), k=3)
    data, indices, indptr = graph.to_csr()
    assert (data == graph.distance.ravel()).all() and (indices == graph.index.ravel()).all()
    assert (indptr == np.arange(0, 76, 3)).all()
