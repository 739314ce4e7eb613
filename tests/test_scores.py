"""The two properties that the papers' released code lacks: scores equal a float64 oracle, and they do
not depend on row order. And what happens at the edges."""

import subprocess
import sys

import numpy as np
import pytest
from compare import assert_same_scores
from hypothesis import given, settings
from hypothesis import strategies as st

import clipscan
from clipscan.engine import as_rows, reference
from clipscan.scores import LOCAL, METHODS
from clipscan.scores.references import Scale, identify
from clipscan.scores.result import count_of
from clipscan.scores.slices import TOGETHER_ROWS, together

ALL = list(METHODS)


def pairs(n=300, d=12, seed=0):
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((8, d))
    image = centres[rng.integers(0, 8, n)] + rng.standard_normal((n, d))
    text = image + 0.5 * rng.standard_normal((n, d))
    return image.astype(np.float32), text.astype(np.float32)


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


def test_draws_differ_by_seed_and_number_and_nest_by_size():
    image, _ = pairs(300)
    result = clipscan.score(image, method="dao", reference="32x2,64x2", k=4)
    small, large = result.references["32x2"], result.references["64x2"]
    assert all(set(a) < set(b) for a, b in zip(small, large, strict=True))
    assert set(large[0]) != set(large[1])
    other = clipscan.score(image, method="dao", reference="64x2", k=4, seed=1)
    assert set(other.references["64x2"][0]) != set(large[0])


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


def test_every_row_is_drawn_about_equally_often():
    identity = identify(as_rows(pairs(200)[0]))
    drawn = [identity.sample(Scale("20", 20, 400), draw, seed=0) for draw in range(400)]
    times = np.bincount(np.concatenate(drawn), minlength=200)  # binomial, mean 40, standard deviation 6
    assert times.min() > 10 and times.max() < 80


def test_a_share_is_rounded_up_to_whole_rows_in_decimal():
    assert [count_of(0.07, 100), count_of(0.011, 200), count_of(1e-9, 10), count_of(0, 10)] == [7, 3, 0, 0]


def test_a_reference_larger_than_the_set_is_the_whole_set():
    image, _ = pairs(100)
    assert (clipscan.score(image, k=5).scores == clipscan.score(image, k=5, reference="all").scores).all()


def test_a_given_reference_array_is_used_as_it_is():
    image, _ = pairs(100)
    rows = pairs(60, seed=9)[0]
    result = clipscan.score(image, reference=rows, k=5, method=list(LOCAL))
    among = reference.density(*reference.knn(rows, rows, 5, np.arange(60), np.arange(60)))
    expected = reference.density(*reference.knn(image, rows, 5, None, None), among)
    assert_same_scores(result.columns, {name: expected[name] for name in LOCAL}, rtol=1e-4)


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


def test_result_flags_by_fraction_or_threshold_never_both():
    image, _ = pairs(200)
    result = clipscan.score(image, method="dao", reference="all", k=5)
    assert result.flag(fraction=0.011).sum() == 3  # rounded up
    assert (result.flag(threshold=2.0) == (result.scores > 2.0)).all()
    assert set(np.flatnonzero(result.flag(fraction=0.05))) == set(result.top(10))
    for wrong in ({}, {"fraction": 0.1, "threshold": 1.0}, {"fraction": 2.0}):
        with pytest.raises(clipscan.InputError):
            result.flag(**wrong)
    with pytest.raises(clipscan.InputError, match="there are: dao"):
        result["slof"]


def test_normalised_rows_are_recorded_and_lose_their_norm():
    image, _ = pairs(100)
    scaled = image * np.linspace(1, 3, 100, dtype=np.float32)[:, None]
    a = clipscan.score(image, method="dao", normalize=True, reference="all", k=5)
    b = clipscan.score(scaled, method="dao", normalize=True, reference="all", k=5)
    assert a.record["normalized"] is True
    assert np.abs(a.scores / b.scores - 1).max() < 1e-2


def test_torch_in_torch_out():
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    image, _ = pairs(100)
    result = clipscan.score(torch.from_numpy(image), reference="all", k=5)
    assert isinstance(result.scores, torch.Tensor)
    assert (result.scores.numpy() == clipscan.score(image, reference="all", k=5).scores).all()


def test_compat_is_reached_through_score():
    image, text = pairs(120)
    result = clipscan.score(image, text=text, method=["slof", "dao"], compat="detect-clip", batches=60, k=4)
    assert set(result.columns) == {"slof", "dao"}
    assert result.record["compat"] == "detect-clip"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "doa"}, "no score 'doa'; there are: consensus"),
        ({"method": []}, "no method asked for"),
        ({"method": "agree"}, "pass text="),
        ({"reference": "12y3"}, "none of 'all'"),
        ({"reference": "1x3"}, "M > 1"),
        ({"reference": "64x2,64x2"}, "twice"),
        ({"reference": "8x2", "k": 8, "method": "dao"}, "k < 8"),
        ({"k": 0}, "at least 1"),
        ({"k": 100}, "more than k rows"),
        ({"k": 100, "method": "dao"}, "k < 100"),
        ({"ids": [1, 2]}, "2 identities for 100 rows"),
        ({"ids": [0] * 100}, "must differ"),
        ({"text": np.zeros((99, 12), np.float32)}, "text has 99"),
        ({"text": np.zeros((100, 3), np.float32)}, "both towers"),
        ({"reference": np.zeros((30, 5), np.float32)}, "width 12, the reference has width 5"),
        ({"against": "text"}, "must be 'image'"),
        (
            {"reference": np.zeros((30, 12), np.float32), "text": np.ones((100, 12)), "method": "agree"},
            "have it drawn",
        ),
        ({"compat": "huang"}, "detect-clip"),
        ({"backend": "cupy"}, "no back-end 'cupy'"),
    ],
)
def test_bad_arguments_are_refused_in_words(change, message):
    image, _ = pairs(100)
    with pytest.raises(clipscan.ClipscanError, match=message):
        clipscan.score(**({"embeddings": image, "reference": "all"} | change))


def test_nan_reference_rows_are_named():
    rows = pairs(40)[0]
    rows[8, 0] = np.inf
    with pytest.raises(clipscan.InputError, match="reference: 1 of 40 rows .* rows 8"):
        clipscan.score(pairs(100)[0], reference=rows, k=5)


def test_nan_captions_are_named():
    image, text = pairs(100)
    text[31, 2] = np.nan
    with pytest.raises(clipscan.InputError, match="text: 1 of 100 rows .* rows 31"):
        clipscan.score(image, text=text, method="cosine")


def test_scoring_numpy_arrays_imports_no_torch():
    code = (
        "import sys, numpy, clipscan; assert 'pyarrow' not in sys.modules;"
        "clipscan.score(numpy.random.rand(50, 4).astype('f4'), k=3);"
        "sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_lof_equals_scikit_learn_s():
    neighbors = pytest.importorskip("sklearn.neighbors", reason="needs scikit-learn (dev extra)")
    image, _ = pairs(300)
    theirs = (
        -neighbors.LocalOutlierFactor(n_neighbors=9, algorithm="brute").fit(image).negative_outlier_factor_
    )
    ours = clipscan.score(image, method="lof", reference="all", k=9).scores
    assert np.abs(ours / theirs - 1).max() < 1e-5


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
@settings(deadline=None, max_examples=50)
def test_small_shards_are_scored_together_and_each_gets_its_own_rows(counts):
    asked = []

    def columns(start, stop):
        asked.append(stop - start)
        return {"row": np.arange(start, stop, dtype=float)}, {}

    of, ends = together(columns, counts), np.cumsum(counts).tolist()
    for start, stop in zip([0, *ends], ends, strict=False):
        if start < stop:
            assert of(start, stop)[0]["row"].tolist() == list(range(start, stop))
    assert asked == ([sum(counts)] if sum(counts) else [])


def test_shards_larger_than_a_block_are_scored_one_by_one_and_no_row_twice():
    asked = []
    of = together(lambda start, stop: asked.append((start, stop)) or ({}, {}), [3, TOGETHER_ROWS, 5, 7])
    for start, stop in [(0, 3), (3, TOGETHER_ROWS + 3), (TOGETHER_ROWS + 3, TOGETHER_ROWS + 8)]:
        of(start, stop)
    assert asked == [(0, 3), (3, TOGETHER_ROWS + 3), (TOGETHER_ROWS + 3, TOGETHER_ROWS + 15)]
