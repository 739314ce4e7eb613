"""clipscan.pyod in the real PyOD: its conventions, and its detectors that take detectors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone

import clipscan

embedding = pytest.importorskip("pyod.models.embedding", reason="needs clipscan[pyod], pyod 3 or newer")
PyodLOF, KNN = (pytest.importorskip(f"pyod.models.{one.lower()}").__dict__[one] for one in ("LOF", "KNN"))
ours = pytest.importorskip("clipscan.pyod")
evaluate_print = pytest.importorskip("pyod.utils.data").evaluate_print

EmbeddingOD, MultiModalOD = embedding.EmbeddingOD, embedding.MultiModalOD
DAO, LOF, SLOF, Consensus, KDist = ours.DAO, ours.LOF, ours.SLOF, ours.Consensus, ours.KDist
DENSITY = [LOF, SLOF, DAO, KDist]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    fitted = rng.normal(size=(400, 8))
    fitted[:20] *= 6
    return fitted, np.vstack([rng.normal(size=(30, 8)), 8 * rng.normal(size=(5, 8))])


@pytest.mark.parametrize("detector", [*DENSITY, Consensus])
def test_it_keeps_pyods_conventions(detector, rows, capsys):
    fitted, new = rows
    found = detector(contamination=0.05).fit(fitted)
    assert found.labels_.sum() == 20 and found.labels_[:20].mean() > 0.8
    assert found.threshold_ == np.percentile(found.decision_scores_, 95)
    scores = found.decision_function(new)
    assert scores.shape == (35,) and scores[30:].min() > np.median(scores[:30])
    assert (found.predict(new) == (scores > found.threshold_)).all()
    chance, sure = found.predict_proba(new, method="unify"), found.predict_confidence(new)
    assert chance.shape == (35, 2) and (chance.sum(axis=1) == 1).all()
    assert ((sure >= 0) & (sure <= 1)).all() and found.predict_with_rejection(new).shape == (35,)
    again = pickle.loads(pickle.dumps(found))
    assert (again.decision_function(new) == scores).all()
    assert clone(found).get_params() == found.get_params()
    evaluate_print("clipscan", np.arange(400) < 20, found.decision_scores_)
    assert "ROC:" in capsys.readouterr().out


def test_values_are_those_of_pyods_own_detectors(rows):
    fitted, new = rows
    for mine, theirs in (
        (LOF(n_neighbors=15), PyodLOF(n_neighbors=15)),
        (LOF(metric="cosine"), PyodLOF(metric="cosine")),
        (KDist(n_neighbors=7), KNN(n_neighbors=7, method="largest")),
    ):
        mine.fit(fitted), theirs.fit(fitted)
        np.testing.assert_allclose(mine.decision_scores_, theirs.decision_scores_, rtol=1e-6)
        np.testing.assert_allclose(mine.decision_function(new), theirs.decision_function(new), rtol=1e-6)
        assert (mine.labels_ == theirs.labels_).all()


def test_values_are_those_of_clipscan_score(rows):
    fitted = rows[0].astype(np.float32)
    plain = clipscan.score(fitted, k=20, method=["slof", "dao"], reference="all")
    np.testing.assert_allclose(SLOF().fit(fitted).decision_scores_, plain["slof"], rtol=1e-6)
    np.testing.assert_allclose(DAO().fit(fitted).decision_scores_, np.log(plain["dao"]), rtol=1e-5, atol=1e-6)
    assert (Consensus().fit(fitted).decision_scores_ == clipscan.score(fitted)["consensus"]).all()


def test_fitted_rows_keep_their_consensus(rows):
    found = Consensus().fit(rows[0])
    assert (found.decision_function(rows[0][::-1]) == found.decision_scores_[::-1]).all()
    pairs = Consensus(paired=True).fit(np.hstack([rows[0], rows[0] + 0.1]))
    plain = clipscan.score(rows[0], text=rows[0] + 0.1)
    assert (pairs.decision_scores_ == plain["consensus"]).all()


@pytest.mark.parametrize("detector", [*DENSITY, Consensus])
def test_detectors_that_take_detectors_take_it(detector, rows):
    words = [" ".join(map(str, row)) for row in rows[0]]

    def encoder(several):
        return np.array([[float(x) for x in one.split()] for one in several])

    text = EmbeddingOD(encoder=encoder, detector=detector(), contamination=0.05, standardize=False).fit(words)
    assert (text.decision_scores_ == detector().fit(rows[0].astype(np.float32)).decision_scores_).all()
    assert text.decision_function(words[:3]).shape == (3,)
    modes = {"text": EmbeddingOD(encoder=encoder, detector=detector()), "table": detector()}
    both = MultiModalOD(modes, contamination=0.05).fit({"text": words, "table": rows[0]})
    assert both.labels_[:20].mean() > 0.8
    assert both.predict({"text": words[:9], "table": None}).shape == (9,)


def test_what_cannot_be_served_is_refused(rows):
    with pytest.raises(clipscan.InputError, match="'euclidean'"):
        LOF(metric="manhattan").fit(rows[0])
    with pytest.raises(clipscan.InputError, match="width 8, new ones 7"):
        LOF().fit(rows[0]).decision_function(rows[0][:, :7])
    with pytest.raises(clipscan.InputError, match="of one width, got 7"):
        Consensus(paired=True).fit(rows[0][:, :7])
    with pytest.raises(ValueError, match="contamination"):
        SLOF(contamination=0.7)
