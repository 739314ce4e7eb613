"""Decisions saved by the page: read, merged with another reviewer's, and what the lists then say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_lists import a_run, names
from typer.testing import CliRunner

from clipscan.errors import DataError, InputError
from clipscan.report.choose import choose_drops
from clipscan.report.rule import rule_of
from clipscan.report.write_lists import write_lists


def saved(path: Path, decided: dict[int, str], border: float | None = None, change: Any = ()) -> Path:
    """As the page saves decisions on rows."""
    listed = [
        {"shard": names(row)[0], "key": names(row)[1], "decision": word} for row, word in decided.items()
    ]
    told = {"clipscan": "decisions", "version": 1, "run": "0", "path": "/run", "decisions": listed}
    told["border"] = None if border is None else {"threshold": border}
    path.write_text(json.dumps(told | dict(change)))
    return path


def rows(run: Path, decisions: Path | Sequence[Path], **how: Any) -> list[int]:
    table = choose_drops(run, decisions=decisions, **how)
    return [int(key.removeprefix("key")) for key in table["key"].to_pylist()]


def test_drop_is_dropped_keep_and_unsure_are_not(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    file = saved(tmp_path / "mine.json", {3: "drop", 4: "keep", 5: "unsure", 17: "drop"})
    assert rows(run, file) == [3, 17]
    assert choose_drops(run, decisions=file)["reason"].to_pylist() == ["decided in mine.json"] * 2


def test_a_border_drops_what_is_above_it_corrected_by_decisions(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")  # row r has the score 100 - r
    file = saved(tmp_path / "mine.json", {1: "keep", 2: "unsure", 15: "drop"}, border=96.5)
    assert rows(run, file) == [0, 2, 3, 15]
    rule = rule_of(choose_drops(run, decisions=file).schema)
    assert rule == {"joined": [{"threshold": 96.5}, {"decisions": "mine.json"}]}


def test_with_add_decisions_correct_the_list_as_it_is(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    write_lists(run, choose_drops(run, fraction=0.2))  # rows 0 to 3
    assert rows(run, saved(tmp_path / "mine.json", {1: "keep", 9: "drop"}), add=True) == [0, 2, 3, 9]


def test_two_reviewers_agree_or_are_told_where_they_do_not(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    one = saved(tmp_path / "one.json", {0: "drop", 1: "drop", 2: "unsure", 3: "keep"})
    two = saved(tmp_path / "two.json", {0: "drop", 2: "drop", 5: "drop"})
    assert rows(run, [one, two]) == [0, 1, 2, 5]  # who is unsure leaves it to the other
    two = saved(tmp_path / "two.json", {0: "drop", 1: "keep", 3: "drop"})
    with pytest.raises(DataError) as refused:
        rows(run, [one, two])
    for words in ("2 samples", "00000.tar/key001: drop in one.json, keep in two.json", "--conflicts"):
        assert words in str(refused.value)
    assert rows(run, [one, two], conflicts="drop") == [0, 1, 3]
    assert rows(run, [one, two], conflicts="keep") == [0]
    assert rows(run, [one, two], conflicts="last") == [0, 3]
    assert rows(run, [two, one], conflicts="last") == [0, 1]


def test_many_conflicts_are_counted_and_a_dozen_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    files = [saved(tmp_path / f"{word}.json", dict.fromkeys(range(15), word)) for word in ("drop", "keep")]
    with pytest.raises(DataError, match="15 samples(.|\n)*and 3 more"):
        rows(run, files)


def test_different_borders_are_a_conflict_too(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    files = [saved(tmp_path / "a.json", {}, border=98.5), saved(tmp_path / "b.json", {}, border=96.5),
             saved(tmp_path / "c.json", {})]  # fmt: skip
    with pytest.raises(DataError, match="98.5 in a.json, 96.5 in b.json"):
        rows(run, files)
    for conflicts, dropped in (("drop", 4), ("keep", 2), ("last", 4)):
        assert rows(run, files, conflicts=conflicts) == list(range(dropped))


def test_a_table_and_the_page_s_file_are_merged(tmp_path: Path) -> None:
    (table := tmp_path / "theirs.csv").write_text("key,decision\nkey007,drop\n")
    run = a_run(tmp_path / "run")
    assert rows(run, [saved(tmp_path / "mine.json", {8: "drop"}), table]) == [8, 7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version is 2"),
        ({"clipscan": "else"}, "not saved by the page"),
        ({"decisions": {"a": 1}}, "no list of objects"),
        ({"decisions": [1]}, "no list of objects"),
        (
            {"decisions": [{"shard": "00000.tar", "key": "key001", "decision": "perhaps"}]},
            "row 1: .*'perhaps'",
        ),
        ({"decisions": [{"shard": 7, "key": "key001", "decision": "drop"}]}, "row 1"),
        ({"decisions": [{"shard": "00000.tar", "key": "", "decision": "drop"}]}, "row 1"),
        ({"border": 7}, "its border is 7"),
        ({"border": {"threshold": True}}, "its border is"),
        ({"border": {"threshold": 10**400}}, "its border is"),
        ({"border": {"threshold": float("nan")}}, "its border is"),
    ],
)
def test_what_the_page_did_not_save_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    run, file = a_run(tmp_path / "run"), saved(tmp_path / "mine.json", {}, change=change)
    with pytest.raises(DataError, match=words):
        rows(run, file)


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions and border are of the same moment."""
    file, read = saved(tmp_path / "mine.json", {1: "drop"}, border=98.5), []
    whole = Path.read_text

    def told(path: Path, *how: Any, **more: Any) -> str:
        read.append(path)
        return whole(path, *how, **more)

    run = a_run(tmp_path / "run")
    monkeypatch.setattr(Path, "read_text", told)
    assert rows(run, file) == [0, 1]
    assert read.count(file) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000, "\xff"])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (file := tmp_path / "mine.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as decisions"):
        rows(a_run(tmp_path / "run"), file)


def test_another_word_for_conflicts_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="refuse, drop, keep, last"):
        rows(a_run(tmp_path / "run"), saved(tmp_path / "a.json", {}), conflicts="mine")


def test_the_command_takes_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clipscan import pipeline
    from clipscan.cli import app

    asked: dict[str, Any] = {}

    def export(run: Any, **how: Any) -> None:
        asked.update(how)
        raise SystemExit

    monkeypatch.setattr(pipeline, "export", export)
    CliRunner().invoke(
        app, ["export", "run", "--decisions", "a.json", "--decisions", "b.csv", "--conflicts", "last"]
    )
    assert asked["decisions"] == [Path("a.json"), Path("b.csv")] and asked["conflicts"] == "last"
