"""Copies in a reference: they count once for others, by themselves for their own kind, and hide no poison."""

import logging
from collections import Counter

import numpy as np
import pytest
from compare import assert_same_scores
from hypothesis import given, settings
from hypothesis import strategies as st

import clipscan
from clipscan.engine import as_rows, reference
from clipscan.scores import LOCAL
from clipscan.scores.references import Scale, identify

RATIOS = ("lof", "slof", "dao", "logdao")


def rows_with_copies(times, d=4, seed=0):
    """One row for each entry, that many times, in random order; and which entry each row is."""
    draw = np.random.default_rng(seed)
    kind = draw.permutation(np.repeat(np.arange(len(times)), times))
    return draw.normal(size=(len(times), d)).astype(np.float32)[kind], kind


def drawn_from(x, kind, scale, number, seed=0):
    """A draw, row by row in hash order: the different rows, and how often each was met on the way."""
    identity = identify(as_rows(x))
    order = identity.sample(Scale("", 0, 1), number, seed)
    met, rows = Counter(), []
    for row in order:
        if len(rows) == scale < len(set(kind)):
            break  # full; one that could hold every row meets every copy
        rows += [] if kind[row] in met else [row]
        met[kind[row]] += 1
    return np.array(rows), met


def by_definition(x, kind, rows, met, k):
    """Local scores of all rows against a draw, one at a time, in float64."""
    x = x.astype(np.float64)
    among = reference.density(*reference.knn(x[rows], x[rows], k, kind[rows], kind[rows]))
    out = {name: np.zeros(len(x)) for name in LOCAL}
    for i, query in enumerate(x):
        own = min(k, max(0, met[kind[i]] - 1))
        [far], [index] = reference.knn(query[None], x[rows], k, kind[i : i + 1], kind[rows])
        far, index = far[index >= 0], index[index >= 0]
        different = far if own < k else np.zeros(1)
        far, o = far[: k - own], index[: k - own]
        r = np.concatenate([np.zeros(own), far])
        kdist = r[-1]
        reach = np.concatenate([np.full(own, kdist), np.maximum(far, among["kdist"][o])])
        # A copy is as dense as the row itself; one in the midst of k others has no density to compare with.
        same = own if kdist > 0 else 0
        ratio = np.concatenate([np.ones(same), kdist / among["kdist"][o]])
        lid = np.concatenate([np.ones(same), among["lid"][o]])
        lrd = np.concatenate([np.ones(same), among["lrd"][o] * reach.mean()])
        found = {
            "kdist": kdist,
            "lid": reference._lid_mle(different), "lid_mom": reference._lid_moments(different),
            "lof": lrd.mean() if len(lrd) else 1, "slof": ratio.mean() if len(ratio) else 1,
            "dao": min((ratio**lid).mean(), reference.MAX_SCORE) if len(ratio) else 1,
            "logdao": (lid * np.log(ratio)).mean() if len(ratio) else 0,
        }  # fmt: skip
        for name in LOCAL:
            out[name][i] = found[name]
    return out


@settings(deadline=None, max_examples=40)
@given(
    times=st.lists(st.sampled_from([1, 1, 1, 2, 3, 9]), min_size=8, max_size=30),
    scale=st.integers(7, 60),
    k=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_scores_with_copies_equal_the_definition(times, scale, k, seed):
    x, kind = rows_with_copies(times, seed=seed)
    if scale <= k or len(x) <= k:
        return
    result = clipscan.score(x, method=list(LOCAL), reference=scale, k=k, backend="reference")
    rows, met = drawn_from(x, kind, scale, 0)
    [drawn] = result.references[str(scale)]
    assert sorted(kind[drawn]) == sorted(kind[rows])
    if len(times) < len(x):
        assert list(drawn) == list(rows)
    with np.errstate(over="ignore"):
        expected = by_definition(x, kind, rows, met, k)
    assert_same_scores(result.columns, expected, rtol=1e-6)


@pytest.mark.parametrize("against", ["image", "image+text"])
@pytest.mark.parametrize("scale", ["20x3", "10x2,20,all", "all"])
def test_with_copies_the_reference_back_end_and_the_cpu_agree_and_order_does_not_matter(scale, against):
    x, _ = rows_with_copies([9] * 3 + [2] * 5 + [1] * 30)
    text = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    ask = {"method": "all", "k": 5, "against": against, "reference": scale}
    plain = clipscan.score(x, text=text, backend="cpu", **ask)
    assert_same_scores(clipscan.score(x, text=text, backend="reference", **ask).columns, plain.columns, 1e-3)
    ids = [f"row {i}" for i in range(len(x))]
    named = clipscan.score(x, text=text, ids=ids, **ask)
    turn = np.random.default_rng(1).permutation(len(x))
    turned = clipscan.score(x[turn], text=text[turn], ids=[ids[i] for i in turn], **ask)
    for name in set(plain.columns) - {"consensus"}:  # whose company a row's own copies are
        assert np.allclose(named[name][turn], turned[name], rtol=1e-9), name


def test_what_others_score_against_the_whole_set_does_not_depend_on_how_often_a_row_is_there():
    x, kind = rows_with_copies([30] * 3 + [1] * 60)
    first = np.unique(kind, return_index=True)[1]
    ask = {"method": list(LOCAL), "k": 5, "reference": "all"}
    often, once = clipscan.score(x, **ask), clipscan.score(x[first], **ask)
    for name in LOCAL:
        assert np.array_equal(often[name][first[3:]], once[name][3:]), name
    heaped = {name: often[name][first[0]] for name in LOCAL}
    assert heaped == dict.fromkeys(("lof", "slof", "dao"), 1) | dict.fromkeys(
        ("kdist", "lid", "lid_mom", "logdao"), 0
    )


def test_in_a_reference_of_ones_own_equal_rows_count_once():
    x, _ = rows_with_copies([1] * 50)
    rows, kind = rows_with_copies([20] * 2 + [1] * 30, seed=1)
    first = np.sort(np.unique(kind, return_index=True)[1])
    ask = {"method": [*LOCAL, "iforest"], "k": 5}
    often, once = clipscan.score(x, reference=rows, **ask), clipscan.score(x, reference=rows[first], **ask)
    assert all(np.array_equal(often[name], once[name]) for name in ask["method"])
    assert often.record["copies"] == 20


def placed(share, pictures, outlying, near=0.0, n=5000, d=32, planted=25):
    """20 classes, a sparse cluster that was planted, and a share of the rows that are copies of few pictures:
    ordinary ones, or such as lie alone. Which rows were planted."""
    draw = np.random.default_rng(0)
    x = 1.5 * draw.normal(size=(20, d))[draw.integers(0, 20, n)] + draw.normal(size=(n, d))
    away = draw.normal(size=d)
    x[:planted] = 9 * away / np.linalg.norm(away) + 1.2 * draw.normal(size=(planted, d))
    source = x[planted : planted + pictures].copy()
    if outlying:
        source = draw.normal(size=(pictures, d))
        source *= 12 / np.linalg.norm(source, axis=1, keepdims=True)
    count = round(share * n)
    if count:
        x[-count:] = source[np.arange(count) % pictures] + near * draw.normal(size=(count, d))
    return x.astype(np.float32), np.arange(n) < planted


@pytest.mark.parametrize(
    ("share", "pictures", "outlying"),
    [(0.01, 1, False), (0.02, 1, False), (0.05, 5, False), (0.2, 1, False), (0.2, 5, False), (0.2, 5, True)],
)
def test_copies_of_a_clean_picture_do_not_hide_poison(share, pictures, outlying):
    x, planted = placed(share, pictures, outlying)
    result = clipscan.score(x, method=["lid", *RATIOS, "consensus"])
    for name in (*RATIOS, "consensus"):
        assert planted[result.top(2 * planted.sum(), name)].sum() >= 0.9 * planted.sum(), name
    assert result["lid"].max() < 0.1 * reference.MAX_LID


def test_the_log_says_once_where_copies_fill_the_neighbourhoods(caplog):
    few, _ = rows_with_copies([3] + [1] * 60)
    many, _ = rows_with_copies([30] + [1] * 60)
    with caplog.at_level(logging.WARNING):
        assert clipscan.score(few, k=5, method="dao").record["copies"] == 3
        assert not caplog.records
        assert clipscan.score(many, k=5, method=["dao", "lof"], reference="all").record["copies"] == 30
        assert clipscan.score(many, k=5).record["copies"] > 5
    assert len(caplog.records) == 2
    assert all("counts once" in record.getMessage() for record in caplog.records)


def test_a_graph_is_taken_as_it_is_and_the_log_says_what_that_means(caplog):
    many, _ = rows_with_copies([30] + [1] * 60)
    with caplog.at_level(logging.WARNING):
        assert clipscan.score(graph=clipscan.knn(many, k=5), method="dao").record["copies"] == 6
    [record] = caplog.records
    assert "score the embeddings" in record.getMessage()
