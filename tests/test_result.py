"""What `clipscan.score` hands back: arrays of the caller's library, and as many rows as were asked for."""

import subprocess
import sys

import numpy as np
import pytest

import clipscan


def vectors(n=60):
    return np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)


def test_a_name_gives_a_column_however_many_there_are():
    one = clipscan.score(vectors(), method="slof", reference="all", k=3)
    two = clipscan.score(vectors(), method=["slof", "dao"], reference="all", k=3)
    assert one.scores.shape == (60,) and (one.scores == one["slof"]).all()
    assert set(two.scores) == {"slof", "dao"} and (two.scores["slof"] == two["slof"]).all()
    assert (two["slof"] == one["slof"]).all() and set(one.columns) == {"slof"}


def test_torch_goes_in_and_rows_flags_and_scores_come_out_as_torch():
    torch = pytest.importorskip("torch", reason="needs clipscan[embed]")
    image = torch.from_numpy(vectors())
    result = clipscan.score(image, method="slof", reference="all", k=3)
    top, flags = result.top(5), result.flag(fraction=0.1)
    assert isinstance(top, torch.Tensor) and isinstance(flags, torch.Tensor) and top.dtype == torch.int64
    assert flags[top].all() and image[top].shape == (5, 8)
    assert top.tolist() == clipscan.score(vectors(), method="slof", reference="all", k=3).top(5).tolist()


def test_more_rows_than_there_are_is_no_question_and_nothing_is_cut_in_silence():
    result = clipscan.score(vectors(), method="slof", reference="all", k=3)
    assert len(result.top()) == 60 and len(result.top(60)) == 60 and len(result.top(0)) == 0
    assert len(clipscan.score(vectors(150), method="slof", reference="all", k=3).top()) == 100
    for wrong in (61, -1):
        with pytest.raises(clipscan.InputError, match=rf"top\({wrong}\) of 60 rows"):
            result.top(wrong)


def test_everything_public_is_seen_before_it_is_used():
    code = "import sys, clipscan; print(*dir(clipscan)); assert 'pyarrow' not in sys.modules"
    seen = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert {"score", "knn", "DropList", "partition", "scan", "InputError"} <= set(seen.stdout.split())


def test_a_result_shows_itself_in_one_line_and_in_a_small_table():
    result = clipscan.score(vectors(), method=["slof", "dao"], reference="all", k=3)
    top = result.top(1, "slof")[0]
    assert repr(result).startswith(
        f"<ScoreResult of 60 rows; slof, dao; highest slof: {result['slof'][top]:.4g}"
    )
    assert len(repr(result)) < 200
    result.columns["<script>"] = result.columns.pop("dao")
    page = result._repr_html_()
    assert page.count("<tr>") == 1 + 10 and "<script>" not in page and "&lt;script&gt;" in page
    assert page.index(f"<th>{top}</th>") < page.index(f"<th>{result.top(2, 'slof')[1]}</th>")
    convicted = clipscan.score(vectors(400))
    assert "0 convicted" in repr(convicted) and "<th>population</th>" in convicted._repr_html_()


def test_a_result_becomes_a_table():
    result = clipscan.score(vectors(400), method=["consensus", "dao"], reference="100x3", k=3)
    table = result.to_arrow()
    assert table.column_names == ["row", "consensus", "dao", "spread_dao", "population"]
    assert table.num_rows == 400 and (table["dao"].to_numpy() == result["dao"]).all()
    pytest.importorskip("pandas", reason="needs pandas")
    frame = result.to_pandas()
    assert frame.index.name == "row" and (frame["consensus"] == result["consensus"]).all()
