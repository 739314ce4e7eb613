"""The graph of a run: the same a shard at a time, and searched once."""

import json

import numpy as np
import pytest

import clipscan
import clipscan.pipeline
from clipscan.run import Run, graph, status

pytest.importorskip("torch", reason="needs clipscan[embed]")


def test_a_graph_searched_a_shard_at_a_time_is_the_graph_searched_at_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    folder = tmp_path / "shards"
    (folder / "img_emb").mkdir(parents=True)
    for shard, count in enumerate((70, 1, 90)):
        np.save(folder / f"img_emb/img_emb_{shard}.npy", rng.standard_normal((count, 8)).astype(np.float32))
    asked = {"k": 4, "reference": "50x2", "graph": "yes"}
    clipscan.scan(folder, out=tmp_path / "whole", **asked)
    monkeypatch.setattr(graph, "AT_ONCE_ROWS", 0)
    clipscan.scan(folder, out=tmp_path / "slices", **asked)
    whole, slices = (Run(tmp_path / name).graph for name in ("whole", "slices"))
    assert whole.n == 161
    assert (whole.index == slices.index).all() and (whole.distance == slices.distance).all()


def test_a_finished_graph_is_not_searched_again(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.random.default_rng(5).standard_normal((60, 6)).astype(np.float32))
    asked = {"out": tmp_path / "run", "k": 3, "reference": "40x2", "graph": "yes"}
    clipscan.scan(tmp_path / "a.npy", **asked)
    monkeypatch.setattr(graph, "search", None)
    monkeypatch.setattr(graph, "check_rows", None)
    clipscan.scan(tmp_path / "a.npy", **asked)


def test_a_graph_made_later_is_no_longer_reported_as_skipped(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((120, 8)).astype(np.float32))
    asked = {"out": tmp_path / "run", "k": 4, "reference": "50x2"}
    clipscan.scan(tmp_path / "a.npy", graph="no", **asked)
    assert status(tmp_path / "run")[1].total == 0
    clipscan.scan(tmp_path / "a.npy", graph="yes", overwrite=True, **asked)
    assert not json.loads((tmp_path / "run/run.json").read_text())["graph"]["skipped"]
    assert status(tmp_path / "run")[1].total == status(tmp_path / "run")[1].done == 1
