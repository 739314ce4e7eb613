"""What clipscan.score takes, refuses and gives back."""

import subprocess
import sys

import numpy as np
import pytest
from score_helpers import pairs

import clipscan


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
