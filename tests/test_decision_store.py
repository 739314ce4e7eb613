"""RUN/decisions.json while it is served: no save is lost, and only decisions are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipscan.errors import DataError
from clipscan.report.serve.decision_store import DecisionStore, Outdated


def body(key: str, **change: Any) -> bytes:
    one = {"shard": "s.tar", "key": key, "decision": "drop"}
    told = {"clipscan": "decisions", "version": 1, "border": None, "decisions": [one]}
    return json.dumps(told | change).encode()


def test_of_two_servers_on_one_run_none_overwrites_the_other(tmp_path: Path) -> None:
    one, two = DecisionStore(tmp_path), DecisionStore(tmp_path)
    assert one.save(body("a"), 0) == 1
    with pytest.raises(Outdated):
        two.save(body("b"), 0)
    assert DecisionStore(tmp_path).words() == {("s.tar", "a"): "drop"}
    revision, value = two.latest()  # as a reload asks for it
    assert value == one.value
    assert two.save(body("b"), revision) == revision + 1
    with pytest.raises(Outdated):
        one.save(body("c"), 1)
    assert one.latest() == (2, two.value) and one.latest()[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.json"]


def test_a_file_that_is_removed_is_a_change_too(tmp_path: Path) -> None:
    store = DecisionStore(tmp_path)
    store.save(body("a"), 0)
    store.path.unlink()
    with pytest.raises(Outdated):
        store.save(body("b"), 1)
    assert store.latest() == (2, None)


@pytest.mark.parametrize(
    "wrong",
    [
        body("\ud800"),
        body("a", border={"threshold": float("nan")}),
        body("a", border={"threshold": 1}).replace(b": 1}", b": 1e999}"),
        body("a", border={"threshold": True}),
        body("a", border=3),
        body("a", border={"threshold": 10**400}),
        body("a", steps=[float("inf")]),
        b"[" * 100_000,
    ],
)
def test_what_no_reader_could_take_is_refused(tmp_path: Path, wrong: bytes) -> None:
    store = DecisionStore(tmp_path)
    with pytest.raises(DataError):
        store.save(wrong, 0)
    assert not store.path.exists() and store.value is None
    assert store.save(body("a\u2028é\U0001f600", border={"threshold": 10**30}), 0) == 1
    assert DecisionStore(tmp_path).value == store.value
