"""The two properties that the papers' released code lacks: scores equal a float64 oracle, and they do
not depend on row order, chunks or threads."""

import numpy as np
import pytest
from compare import assert_same_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from score_helpers import pairs

import clipscan
from clipscan.engine import reference
from clipscan.scores import LOCAL, METHODS
from clipscan.scores.slices import together  # noqa: F401

ALL = list(METHODS)


def oracle(image, drawn, k, text=None):
    """Scores against the drawn rows, by the formulas, one row at a time, in float64."""
    x = image.astype(np.float64)
    rows, own = x[drawn], np.arange(len(drawn))
    among = reference.density(*reference.knn(rows, rows, k, own, own))
    table = reference.knn(x, rows, k, np.arange(len(x)), drawn)
    out = reference.density(*table, among)
    if text is not None:
        t = text.astype(np.float64)
        captions = reference.knn(t, t[drawn], k, np.arange(len(x)), drawn)
        out["agree"] = -reference.mean_cosine(t, t[drawn], table[1])
        out["cross"] = -reference.mean_cosine(x, rows, captions[1])
    return out


def test_scores_against_drawn_references_equal_the_float64_oracle():
    image, text = pairs()
    result = clipscan.score(image, text=text, method=[*LOCAL, "agree", "cross"], reference="64x3", k=5)
    draws = [oracle(image, drawn, 5, text) for drawn in result.references["64x3"]]
    assert [len(drawn) for drawn in result.references["64x3"]] == [64, 64, 64]
    expected = {
        name: np.mean([draw[name] for draw in draws], axis=0) for name in result.columns if name != "dao"
    }
    expected["dao"] = np.exp(np.mean([np.log(draw["dao"]) for draw in draws], axis=0))
    # float32 distances: (d+4) roundings; LID and DAO amplify them by at most a few dozen here
    assert_same_scores(result.columns, expected, rtol=1e-4)
    spread = np.std([draw["slof"] for draw in draws], axis=0)
    assert np.abs(result.spread["slof"] - spread).max() < 1e-5


def test_scores_against_the_whole_set_equal_the_float64_oracle():
    image, text = pairs(200)
    result = clipscan.score(image, text=text, method=[*LOCAL, "agree", "cross"], reference="all", k=6)
    expected = oracle(image, np.arange(200), 6, text)
    assert_same_scores(result.columns, {name: expected[name] for name in result.columns}, rtol=1e-4)


def test_the_reference_backend_and_the_cpu_backend_agree():
    image, text = pairs(150)
    ours, exact = (
        clipscan.score(image, text=text, method=ALL, reference="50x2", k=4, backend=backend).columns
        for backend in ("cpu", "reference")
    )
    assert_same_scores(ours, exact, rtol=1e-4)


@pytest.mark.parametrize("against", ["image", "image+text"])
@pytest.mark.parametrize("scale", ["64x3", "40x2,100,all", "all"])
def test_permuting_the_rows_permutes_the_scores(scale, against):
    image, _ = pairs(240)
    text = pairs(240, seed=5)[0]
    turn = np.random.default_rng(1).permutation(240)
    plain = clipscan.score(image, text=text, method=ALL, reference=scale, k=5, against=against)
    turned = clipscan.score(image[turn], text=text[turn], method=ALL, reference=scale, k=5, against=against)
    for name in plain.columns:
        assert (plain[name][turn] == turned[name]).all(), name


def test_permuting_rows_with_copies_permutes_the_scores():
    image = np.repeat(pairs(80)[0], 3, axis=0)
    turn = np.random.default_rng(1).permutation(240)
    plain = clipscan.score(image, method=list(LOCAL), reference="60x3", k=5)
    turned = clipscan.score(image[turn], method=list(LOCAL), reference="60x3", k=5)
    for name in plain.columns:
        assert (plain[name][turn] == turned[name]).all(), name
        assert (plain[name].reshape(80, 3) == plain[name][::3, None]).all(), "copies score alike"


def test_given_identities_decide_the_draw_whatever_the_order():
    image, _ = pairs(200)
    ids = [f"shard{i % 3}/{i}" for i in range(200)]
    turn = np.random.default_rng(2).permutation(200)
    ask = {"method": ["consensus", "dao"], "reference": "50x2", "k": 5}
    plain = clipscan.score(image, ids=ids, **ask)
    turned = clipscan.score(image[turn], ids=[ids[i] for i in turn], **ask)
    assert (plain["consensus"][turn] == turned["consensus"]).all()
    assert (plain["dao"][turn] == turned["dao"]).all()
    assert {ids[i] for i in plain.references["50x2"][0]} == {
        ids[turn[i]] for i in turned.references["50x2"][0]
    }


@pytest.mark.parametrize("against", ["image", "image+text"])
def test_scales_searched_together_score_as_each_alone(against):
    image, text = pairs(300)
    text[::7] = text[0]  # captions repeat
    ask = {"text": text, "method": ALL, "k": 4, "against": against}
    together = clipscan.score(image, reference="32x4,64x3,100,200x2,all", **ask)
    for scale in ("32x4", "64x3", "100", "200x2", "all"):
        alone = clipscan.score(image, reference=scale, **ask)
        for name in alone.columns:
            column = name if name in ("consensus", "misfit", "cosine") else f"{name}@{scale}"
            assert (together[column] == alone[name]).all(), column


def test_a_far_row_and_a_wrong_caption_come_first():
    image, text = pairs(400)
    image[17] += 25
    text[40] = -text[40]
    result = clipscan.score(image, text=text, method=ALL, reference="128x4", k=8)
    for name in ("kdist", "slof", "lof", "dao", "logdao", "iforest"):
        assert result.top(1, name)[0] == 17, name
    for name in ("cosine", "agree", "cross"):
        assert 40 in result.top(8, name), name


def test_scores_are_finite_on_copies_and_constant_rows():
    image = np.concatenate([np.zeros((60, 5)), np.ones((60, 5)), pairs(80, 5)[0]]).astype(np.float32)
    for scale in ("all", "50x4"):
        result = clipscan.score(image, method=[*LOCAL, "iforest"], reference=scale, k=5)
        for name, column in result.columns.items():
            assert np.isfinite(column).all(), name
    result = clipscan.score(image, method=["slof", "lof", "dao", "logdao", "lid"], reference="all", k=5)
    assert [float(result[name][0]) for name in result.columns] == [1, 1, 1, 0, 0]


@settings(deadline=None, max_examples=25)
@given(n=st.integers(8, 60), d=st.integers(1, 6), grid=st.sampled_from([0, 1, 4]), seed=st.integers(0, 99))
def test_density_equals_the_definition_on_any_table(n, d, grid, seed):
    x = pairs(n, max(d, 2), seed)[0][:, :d]
    x = np.round(x * grid) / grid if grid else x
    graph = clipscan.knn(x, k=1 + seed % (n - 1))
    ours = clipscan.score(graph=graph, method=LOCAL).columns
    exact = reference.density(graph.distance, graph.index)
    assert_same_scores(ours, {name: exact[name] for name in LOCAL}, rtol=1e-9)


def test_several_scales_in_one_call_equal_one_call_each():
    image, _ = pairs(200)
    both = clipscan.score(image, method="dao", reference="32x2,64x2", k=5)
    assert list(both.columns) == ["dao@32x2", "dao@64x2"]
    for scale in ("32x2", "64x2"):
        assert (
            both[f"dao@{scale}"] == clipscan.score(image, method="dao", reference=scale, k=5).scores
        ).all()


def test_the_answer_is_the_same_for_any_chunking_and_thread_count(monkeypatch):
    image, text = pairs(300)
    plain = clipscan.score(image, text=text, method=ALL, reference="64x2", k=5, threads=1)
    monkeypatch.setattr("clipscan.scores.slices.QUERY_BYTES", 4 * 12 * 37)
    chunked = clipscan.score(
        image, text=text, method=ALL, reference="64x2", k=5, threads=3, max_memory=1 << 14
    )
    for name in plain.columns:
        assert (plain[name] == chunked[name]).all(), name


def test_lof_equals_scikit_learn_s():
    neighbors = pytest.importorskip("sklearn.neighbors", reason="needs scikit-learn (dev extra)")
    image, _ = pairs(300)
    theirs = (
        -neighbors.LocalOutlierFactor(n_neighbors=9, algorithm="brute").fit(image).negative_outlier_factor_
    )
    ours = clipscan.score(image, method="lof", reference="all", k=9).scores
    assert np.abs(ours / theirs - 1).max() < 1e-5
