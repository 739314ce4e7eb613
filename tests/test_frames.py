"""Frames where arrays are taken: a column a coordinate, or one column of vectors."""

from __future__ import annotations

import numpy as np
import pytest

import clipscan
from clipscan.engine import as_rows

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def frames():
    try:
        import pandas as pd
    except ImportError:
        pass
    else:
        yield "pandas", pd.DataFrame(X, columns=[f"x{i}" for i in range(6)])
        yield "pandas, nullable", pd.DataFrame(X).astype("Float32")
        yield "pandas, a column", pd.DataFrame({"e": list(X)})["e"]
    try:
        import polars as pl
    except ImportError:
        pass
    else:
        yield "polars", pl.DataFrame(X)
        yield "polars, an array column", pl.DataFrame({"e": X}, schema={"e": pl.Array(pl.Float32, 6)})["e"]
        yield "polars, a list column", pl.DataFrame({"e": X.tolist()}, schema={"e": pl.List(pl.Float32)})["e"]


KNOWN = dict(frames())
needed = pytest.mark.skipif(not KNOWN, reason="needs pandas or polars")


@needed
@pytest.mark.parametrize("name", KNOWN)
def test_a_frame_is_read_as_its_array(name):
    assert (as_rows(KNOWN[name]).block(0, 40) == X).all()
    assert (clipscan.knn(KNOWN[name], k=3).index == clipscan.knn(X, k=3).index).all()
    ours, plain = (clipscan.score(one, text=one, method="slof", k=3) for one in (KNOWN[name], X))
    assert isinstance(ours["slof"], np.ndarray) and (ours["slof"] == plain["slof"]).all()


def test_a_frame_of_one_type_is_not_copied():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    frame = pd.DataFrame(X, copy=False)
    assert np.shares_memory(as_rows(frame).parts[0], X)


def test_what_is_no_vector_is_refused_with_its_place():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    mixed = pd.DataFrame(X).assign(caption="a dog")
    with pytest.raises(clipscan.InputError, match=r"1 of 7 columns hold no numbers: 'caption'"):
        clipscan.knn(mixed)
    ragged = pd.Series([X[0], X[1], X[2][:5]])
    with pytest.raises(clipscan.InputError, match=r"row 2 .* shape \(5,\), the first has \(6,\)"):
        clipscan.knn(ragged)
    with pytest.raises(clipscan.InputError, match="got shape"):
        clipscan.knn(pd.Series(X[:, 0]))
    with pytest.raises(clipscan.InputError, match="got int64"):
        clipscan.knn(pd.DataFrame(np.arange(20).reshape(10, 2)))
    missing = pd.DataFrame(X).astype("Float32")
    missing.iloc[3, 2] = pd.NA
    with pytest.raises(clipscan.InputError, match="rows 3"):
        clipscan.knn(missing, k=3)


def test_polars_frames_are_refused_with_their_place():
    pl = pytest.importorskip("polars", reason="needs polars")
    with pytest.raises(clipscan.InputError, match="hold no numbers: 'caption'"):
        clipscan.knn(pl.DataFrame(X).with_columns(caption=pl.lit("a dog")))
    with pytest.raises(clipscan.InputError, match="row 1 of the column"):
        clipscan.knn(pl.Series([[1.0, 2.0], [3.0]]))
