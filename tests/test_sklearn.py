"""clipscan.sklearn: scikit-learn's own checks, its conventions, and where clipscan differs on purpose."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.cluster import DBSCAN, HDBSCAN
from sklearn.manifold import TSNE, Isomap
from sklearn.neighbors import KNeighborsTransformer
from sklearn.neighbors import LocalOutlierFactor as Theirs
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import clipscan
from clipscan.errors import InputError
from clipscan.sklearn import ConsensusDetector, ExactKNeighborsTransformer, LocalOutlierFactor

EXPECTED_TO_FAIL = {
    ConsensusDetector: {
        "check_outliers_fit_predict": "expects outliers among plain blobs; there nothing is convicted",
    }
}
ESTIMATORS = [
    LocalOutlierFactor(),
    LocalOutlierFactor(novelty=True),
    LocalOutlierFactor(metric="cosine", contamination=0.1),
    ExactKNeighborsTransformer(),
    ExactKNeighborsTransformer(mode="connectivity"),
    ConsensusDetector(),
    ConsensusDetector(contamination=0.1),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_scikit_learns_own_checks_pass(estimator):
    auto = estimator.get_params().get("contamination") == "auto"
    expected = EXPECTED_TO_FAIL.get(type(estimator), {}) if auto else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    failed = [(r["check_name"], repr(r["exception"])) for r in results if r["status"] == "failed"]
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(expected)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(300, 12))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_new_rows_score_as_scikit_learn_scores_them(rows, kind):
    fitted, new = rows[:250].astype(kind), np.vstack([rows[250:], 4 * rows[:3]]).astype(kind)
    ours = LocalOutlierFactor(n_neighbors=15, novelty=True, contamination=0.03).fit(fitted)
    theirs = Theirs(n_neighbors=15, novelty=True, contamination=0.03).fit(fitted)
    np.testing.assert_allclose(ours.offset_, theirs.offset_, rtol=1e-5)
    np.testing.assert_allclose(ours.decision_function(new), theirs.decision_function(new), atol=1e-5)
    assert (ours.predict(new) == theirs.predict(new)).all() and (ours.predict(new[-3:]) == -1).all()
    assert (pickle.loads(pickle.dumps(ours)).score_samples(new) == ours.score_samples(new)).all()


def test_cosine_equals_scikit_learns(rows):
    rows = rows + 1
    rows[7] = 0  # at distance 1 from all
    ours = LocalOutlierFactor(metric="cosine").fit(rows)
    theirs = Theirs(metric="cosine").fit(rows)
    factors = [np.delete(one.negative_outlier_factor_, 7) for one in (ours, theirs)]  # all tie around row 7
    np.testing.assert_allclose(*factors, rtol=1e-6)
    for new in (rows[:5] + 0.1, -rows[:9]):  # the last two without and with a zero row
        found, expected = ours.kneighbors(new, 8), theirs.kneighbors(new, 8)
        np.testing.assert_allclose(found[0][:7], expected[0][:7], rtol=1e-6)
        assert (found[1][:7] == expected[1][:7]).all()
    assert found[0][7, 0] == 0, "zero rows are copies of one another"
    np.testing.assert_allclose(found[0][7, 1:], 1)


def test_a_heap_of_copies_makes_no_outliers_of_its_neighbours(rows):
    rows[:40] = rows[0] + 1e-3  # more copies than neighbours
    rows[40:43] = rows[0] + 1e-3 + 1e-2 * np.random.default_rng(1).normal(size=(3, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Theirs().fit(rows).negative_outlier_factor_
    ours = LocalOutlierFactor().fit(rows).negative_outlier_factor_
    assert theirs[40:43].max() < -1e6, "scikit-learn's warning is about these"
    assert (ours[:40] == -1).all() and (ours[40:43] > -3).all() and np.isfinite(ours).all()
    apart = np.abs(theirs) < 1e3
    apart[:43] = False
    np.testing.assert_allclose(ours[apart], theirs[apart], rtol=1e-6)


def test_the_scale_of_the_data_does_not_matter(rows):
    ours = [LocalOutlierFactor().fit(rows * 2.0**e).negative_outlier_factor_ for e in (-900, -40, 0, 400)]
    for one in ours:
        np.testing.assert_array_equal(one, ours[2])


def test_what_cannot_be_served_is_refused_in_words(rows):
    for how, words in {
        "metric": ("manhattan", "scikit-learn's own estimator takes others"),
        "p": (1, "with p=1"),
        "metric_params": ({"w": 1}, "no metric here has parameters"),
        "algorithm": ("hnsw", "is none of auto"),
        "n_neighbors": (0, "at least 1"),
        "contamination": (0.7, "'auto' or lie in"),
    }.items():
        with pytest.raises(clipscan.InputError, match=words[1]):
            LocalOutlierFactor(**{how: words[0]}).fit(rows)
    with pytest.raises(ValueError, match="use k <= 299"):
        LocalOutlierFactor().fit(rows).kneighbors(n_neighbors=300)
    with pytest.raises(TypeError, match="[Ss]parse"):
        LocalOutlierFactor().fit(csr_matrix(rows))


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_the_graph_is_that_of_scikit_learns_transformer(rows, mode):
    ours = ExactKNeighborsTransformer(n_neighbors=7, mode=mode)
    theirs = KNeighborsTransformer(n_neighbors=7, mode=mode).fit(rows)
    for one, other in (
        (ours.fit_transform(rows), theirs.transform(rows)),
        (ours.transform(rows), theirs.transform(rows)),
        (ours.transform(rows[:20] + 0.1), theirs.transform(rows[:20] + 0.1)),
        (ours.kneighbors_graph(mode=mode), theirs.kneighbors_graph(mode=mode)),
    ):
        assert one.shape == other.shape and (one.indptr == other.indptr).all()
        assert (one.indices == other.indices).all()
        np.testing.assert_allclose(one.data, other.data, rtol=1e-12)
    assert (ours.get_feature_names_out() == [f"exactkneighborstransformer{i}" for i in range(300)]).all()


def test_each_row_is_its_own_first_neighbour_even_among_copies(rows):
    rows[5:9] = rows[4]
    graph = ExactKNeighborsTransformer(n_neighbors=6).fit_transform(rows)
    entries = graph.indices.reshape(300, 7), graph.data.reshape(300, 7)
    assert (entries[0][:, 0] == np.arange(300)).all() and (entries[1][:, 0] == 0).all()
    assert (np.diff(entries[1], axis=1) >= 0).all()


def test_the_graph_serves_tsne_and_hdbscan(rows):
    rows[150:] += 30
    graph = ExactKNeighborsTransformer(n_neighbors=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that rows are not sorted
        flat = make_pipeline(
            graph, TSNE(metric="precomputed", init="random", perplexity=12, max_iter=250, random_state=0)
        ).fit_transform(rows)
        assert flat.shape == (300, 2)
        near = make_pipeline(graph, DBSCAN(eps=6, metric="precomputed")).fit_predict(rows)
    assert set(near[:150]) & set(near[150:]) <= {-1}
    whole = ExactKNeighborsTransformer(n_neighbors=200).fit_transform(rows)
    found = HDBSCAN(metric="precomputed", min_cluster_size=30, copy=True).fit_predict(whole.maximum(whole.T))
    plain = HDBSCAN(min_cluster_size=30, copy=True).fit_predict(rows)
    assert (found == plain).all()


def test_umap_finds_by_the_graph_what_it_finds_by_itself(rows):
    umap = pytest.importorskip("umap", reason="needs umap-learn: pip install 'clipscan[map]'")
    graph = ExactKNeighborsTransformer(n_neighbors=14).fit_transform(rows)
    table = graph.indices.reshape(300, -1), graph.data.reshape(300, -1), None
    how = {"n_neighbors": 15, "n_epochs": 1, "random_state": 0}
    difference = umap.UMAP(precomputed_knn=table, **how).fit(rows).graph_ - umap.UMAP(**how).fit(rows).graph_
    assert abs(difference).max() < 1e-4


def test_isomap_takes_the_graph(rows):
    ours = make_pipeline(
        ExactKNeighborsTransformer(n_neighbors=20), Isomap(n_neighbors=20, metric="precomputed")
    ).fit_transform(rows)
    plain = Isomap(n_neighbors=20).fit_transform(rows)
    np.testing.assert_allclose(np.abs(ours), np.abs(plain), atol=1e-6)


@pytest.fixture(scope="module")
def poisoned():
    """1,500 pairs of 12 topics; 60 share a mark in the picture and one caption."""
    rng = np.random.default_rng(0)
    topic, centres = rng.integers(0, 12, 1500), rng.normal(size=(12, 32))
    text = centres[topic] + 0.1 * rng.normal(size=(1500, 32))
    image = centres[topic] + 0.3 * rng.normal(size=(1500, 32))
    bad = rng.choice(1500, 60, replace=False)
    image[bad] += 2 * rng.normal(size=32)
    text[bad] = centres[3] + 0.02 * rng.normal(size=(60, 32))
    return image.astype(np.float32), text.astype(np.float32), bad


def test_consensus_is_that_of_clipscan_score_with_captions_beside_or_in_one_matrix(poisoned):
    image, text, bad = poisoned
    ours = ConsensusDetector().fit(image, text=text)
    plain = clipscan.score(image, text=text)
    assert (-ours.negative_score_ == plain.columns["consensus"]).all()
    found = ConsensusDetector().fit_predict(image, text=text)
    assert (found == np.where(plain.columns["consensus"] >= 40, -1, 1)).all()
    assert (found[bad] == -1).mean() > 0.9, "the planted ones are convicted"
    assert (found == ConsensusDetector(paired=True).fit_predict(np.hstack([image, text]))).all()
    share = ConsensusDetector(contamination=0.02).fit_predict(image, text=text)
    assert (share == -1).sum() == 30 and np.isin(np.flatnonzero(share == -1), bad).all()
    for again in (clone(ours), pickle.loads(pickle.dumps(ours))):
        assert again.get_params() == ours.get_params()


def test_consensus_refuses_what_does_not_fit(poisoned):
    image, text, _ = poisoned
    with pytest.raises(clipscan.InputError, match="twice their width"):
        ConsensusDetector(paired=True).fit(image[:, :-1])
    with pytest.raises(clipscan.InputError, match="text has 9"):
        ConsensusDetector().fit(image, text=text[:9])
    with pytest.raises(ValueError, match="text contains NaN"):
        ConsensusDetector().fit(image, text=np.where(text > 1, np.nan, text))
    assert not hasattr(ConsensusDetector(), "predict")


@pytest.mark.parametrize("wrong", [2.5, "a", None, 0, [3]])
def test_what_is_no_number_of_neighbours_is_refused_in_words(wrong):
    x = np.random.default_rng(0).normal(size=(20, 3))
    for estimator in (ConsensusDetector, LocalOutlierFactor, ExactKNeighborsTransformer):
        with pytest.raises(InputError, match="n_neighbors must be an integer of at least 1"):
            estimator(n_neighbors=wrong).fit(x)
    if wrong is not None:  # which stands for the estimator's own
        with pytest.raises(InputError, match="n_neighbors must be an integer of at least 1"):
            ExactKNeighborsTransformer().fit(x).kneighbors(x, wrong)


WRONG_SEEDS = [None, "a", 1.5, True, np.random.RandomState(0)]


@pytest.mark.parametrize("wrong", WRONG_SEEDS, ids=[type(one).__name__ for one in WRONG_SEEDS])
def test_a_seed_that_is_no_integer_is_refused_in_words(wrong):
    with pytest.raises(InputError, match="random_state must be an integer"):
        ConsensusDetector(random_state=wrong).fit(np.eye(4))
