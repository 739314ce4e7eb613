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
