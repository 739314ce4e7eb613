"""drop.parquet, keep.txt, drop.txt, keep_uids.npy: what a training pipeline is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipscan.errors import DataError, InputError, RunError
from clipscan.report.choose import choose_drops
from clipscan.report.write_lists import Written, escape, read_list, unescape, write_lists

N = 20


def names(row: int) -> tuple[str, str]:
    return f"{row // 10:05d}.tar", f"key{row:03d}"


def uid(row: int) -> str:
    return f"{(row * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128:032x}"


def a_run(folder: Path, *, uids: bool = True, suspects: int = 5, n: int = N) -> Path:
    """A run of `n` samples in two metadata files; the score of row r is 100 - r, ranked by it."""
    rows = range(n)
    shard, key = zip(*map(names, rows), strict=True)
    table = pa.table({"shard": shard, "key": key, "uid": [uid(row) if uids else "" for row in rows]})
    metadata = folder / "embeddings" / "metadata"
    metadata.mkdir(parents=True)
    pq.write_table(table.slice(0, n // 2), metadata / "metadata_00000.parquet")
    pq.write_table(table.slice(n // 2), metadata / "metadata_00001.parquet")
    (folder / "scores").mkdir()
    scores = table.select(["shard", "key"]).append_column("dao", pa.array([100.0 - row for row in rows]))
    pq.write_table(scores, folder / "scores" / "scores_00000.parquet")
    ranked = scores.slice(0, suspects).rename_columns(["shard", "key", "score"])
    ranked = ranked.append_column("uid", table["uid"].slice(0, suspects))
    ranked = ranked.append_column("rank", pa.array(range(1, suspects + 1), pa.int64()))
    pq.write_table(ranked, folder / "suspects.parquet")
    pq.write_table(
        pa.table({"shard": ["broken.tar"], "key": [""], "reason": ["truncated"]}), folder / "bad.parquet"
    )
    (folder / "run.json").write_text(json.dumps({"score": {"method": "dao", "k": 16}}))
    return folder


def drop(*rows: int) -> list[tuple[str, str, str, str, float]]:
    return [(*names(row), uid(row), "test", float(row)) for row in rows]


def test_every_embedded_sample_is_in_exactly_one_list(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert write_lists(run, drop(13, 2, 7)) == Written(kept=17, dropped=3, uids=17)
    dropped, kept = list(read_list(run / "drop.txt")), list(read_list(run / "keep.txt"))
    assert dropped == [names(13), names(2), names(7)]
    assert kept == [names(row) for row in range(N) if row not in (13, 2, 7)]
    table = pq.read_table(run / "drop.parquet")
    assert table.column_names == ["shard", "key", "uid", "reason", "score"]
    assert table["uid"].to_pylist() == [uid(13), uid(2), uid(7)]


def test_keep_uids_are_datacomp_pairs_in_order(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    write_lists(run, drop(0, 1))
    found = np.load(run / "keep_uids.npy", allow_pickle=False)
    expected = sorted((int(uid(row)[:16], 16), int(uid(row)[16:], 16)) for row in range(2, N))
    assert found.dtype == np.dtype("u8,u8")
    assert [tuple(map(int, pair)) for pair in found] == expected


def test_a_uid_that_is_dropped_anywhere_is_kept_nowhere(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    path = run / "embeddings" / "metadata" / "metadata_00001.parquet"
    table = pq.read_table(path)
    twin = pa.array([uid(0), *table["uid"].to_pylist()[1:]])
    pq.write_table(table.set_column(2, "uid", twin), path)
    assert write_lists(run, drop(0)) == Written(kept=19, dropped=1, uids=18)


def test_without_uids_there_is_no_uid_file_and_no_stale_one(tmp_path: Path) -> None:
    run = a_run(tmp_path, uids=False)
    (run / "keep_uids.npy").write_bytes(b"from an earlier run")
    assert write_lists(run, drop(3)).uids is None
    assert not (run / "keep_uids.npy").exists()


def test_dropping_nothing_and_dropping_everything_are_lists_too(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert write_lists(run, []) == Written(kept=N, dropped=0, uids=N)
    assert (run / "drop.txt").read_text() == ""
    assert write_lists(run, drop(*range(N))) == Written(kept=0, dropped=N, uids=0)
    assert (run / "keep.txt").read_text() == ""


def test_a_row_of_another_run_changes_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    write_lists(run, drop(3))
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(RunError, match="holds no sample"):
        write_lists(run, [("elsewhere.tar", "x", "", "", 0.0)])
    with pytest.raises(RunError, match="twice"):
        write_lists(run, drop(3, 3))
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


@given(st.text())
def test_any_name_survives_its_escape_on_one_line(name: str) -> None:
    line = escape(name)
    assert unescape(line) == name
    assert "\t" not in line
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize("text", ["\\", "a\\q", "\\x4", "\\u00"])
def test_a_backslash_that_escapes_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="backslash"):
        unescape(text)


def test_hostile_names_keep_to_their_line(tmp_path: Path) -> None:
    run = a_run(tmp_path, n=2, suspects=1)
    path = run / "embeddings" / "metadata" / "metadata_00000.parquet"
    nasty = ("a\\t.tar", "x\ty\nz\u2028\x1b[31m")
    pq.write_table(pa.table({"shard": [nasty[0]], "key": [nasty[1]], "uid": [""]}), path)
    write_lists(run, drop(1))
    assert list(read_list(run / "keep.txt")) == [nasty]
    (run / "keep.txt").write_text("no tab here\n")
    with pytest.raises(DataError, match="line 1"):
        list(read_list(run / "keep.txt"))


def test_a_share_is_rounded_up_and_reaches_past_the_suspects(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert choose_drops(run, fraction=0.1)["key"].to_pylist() == ["key000", "key001"]
    assert choose_drops(run, fraction=0.101).num_rows == 3
    assert choose_drops(run, fraction=0).num_rows == 0
    eight = choose_drops(run, fraction=0.4)
    assert eight["key"].to_pylist() == [f"key{row:03d}" for row in range(8)]
    assert eight["uid"].to_pylist() == [uid(row) for row in range(8)]
    assert eight["reason"][7].as_py() == "rank 8 of 20 by dao"
    assert choose_drops(run, fraction=1).num_rows == N


def test_a_score_that_is_nan_is_never_dropped_by_rank(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    path = run / "scores" / "scores_00000.parquet"
    table = pq.read_table(path)
    scores = pa.array([*table["dao"].to_pylist()[:-2], float("nan"), float("nan")])
    pq.write_table(table.set_column(2, "dao", scores), path)
    assert choose_drops(run, fraction=1).num_rows == N - 2
    assert choose_drops(run, threshold=-1e9).num_rows == N - 2


@pytest.mark.parametrize(("threshold", "rows"), [(98.5, 2), (98, 2), (96, 4), (90, 10), (100, 0), (0, N)])
def test_a_threshold_drops_every_score_above_it(tmp_path: Path, threshold: float, rows: int) -> None:
    chosen = choose_drops(a_run(tmp_path), threshold=threshold)
    assert chosen.num_rows == rows
    assert all(score > threshold for score in chosen["score"].to_pylist())


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_decisions_are_read_from_three_formats(tmp_path: Path, suffix: str) -> None:
    run = a_run(tmp_path / "run")
    rows = [(*names(4), "keep"), (*names(12), "drop"), (*names(1), "Drop")]
    path = tmp_path / f"decisions{suffix}"
    if suffix == ".parquet":
        columns = dict(zip(("shard", "key", "decision"), zip(*rows, strict=True), strict=True))
        pq.write_table(pa.table(columns), path)
    elif suffix == ".csv":
        path.write_text("\ufeffshard,key,decision\n" + "".join(",".join(row) + "\n" for row in rows))
    else:
        keys = ("shard", "key", "decision")
        path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    chosen = choose_drops(run, decisions=path)
    assert chosen["shard"].to_pylist() == [names(12)[0], names(1)[0]]
    assert chosen["key"].to_pylist() == [names(12)[1], names(1)[1]]
    assert chosen["score"].to_pylist() == [88.0, 99.0]
    assert write_lists(run, chosen).dropped == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shard,key,decision\n00000.tar,key001,perhaps\n", "row 1.*perhaps"),
        ("shard,key\n00000.tar,key001\n", "row 1"),
        ("shard,key,decision\n00000.tar,key001,drop\n00000.tar,key001,keep\n", "row 2.*decide once"),
    ],
)
def test_a_decision_that_cannot_be_read_names_its_row(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        choose_drops(a_run(tmp_path / "run"), decisions=tmp_path / "d.csv")


def test_a_decision_on_a_stranger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("shard,key,decision\nother.tar,key001,keep\n")
    with pytest.raises(RunError, match=r"other\.tar"):
        choose_drops(a_run(tmp_path / "run"), decisions=tmp_path / "d.csv")


def test_exactly_one_rule_is_given(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    for wrong in ({}, {"fraction": 0.1, "threshold": 1.0}, {"fraction": 1.5}, {"threshold": float("nan")}):
        with pytest.raises(InputError):
            choose_drops(run, **wrong)
