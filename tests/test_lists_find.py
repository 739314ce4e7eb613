"""A sample is found by whatever names it and nothing else; other names are answered with help."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipscan import cli
from clipscan.errors import DataError, RunError
from clipscan.report.choose import choose_drops
from clipscan.report.drop_schema import pairs_of
from clipscan.report.find_sample import SampleFinder, shown
from clipscan.report.rule import in_words, rule_of_run
from clipscan.report.write_lists import write_lists

FOLDER = [(".", f"{kind}/{i:05d}") for kind in ("cat", "dog") for i in (1, 2)] + [
    (".", "00007"),
    (".", "x.1"),
]
TARS = [(f"{shard:05d}.tar", f"{i:05d}") for shard in (0, 1) for i in (3, 4)] + [("00001.tar", "00009")]


def a_run(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    """A scored run of these samples, the first the most suspicious; 00099 could not be read."""
    shards, keys = (list(names) for names in zip(*pairs, strict=True))
    metadata = folder / "embeddings/metadata"
    metadata.mkdir(parents=True)
    names = pa.table({"shard": shards, "key": keys})
    pq.write_table(
        names.append_column("uid", pa.array([""] * len(keys))), metadata / "metadata_00000.parquet"
    )
    (folder / "scores").mkdir()
    scores = names.append_column("dao", pa.array([float(-i) for i in range(len(keys))]))
    pq.write_table(scores, folder / "scores/scores_00000.parquet")
    suspects = scores.rename_columns(["shard", "key", "score"]).slice(0, 2)
    pq.write_table(suspects.append_column("rank", pa.array([1, 2])), folder / "suspects.parquet")
    bad = {"shard": [shards[0]], "key": ["00099"], "reason": ["truncated"]}
    pq.write_table(pa.table(bad), folder / "bad.parquet")
    (folder / "run.json").write_text(json.dumps({"score": {"method": "dao", "k": 2}}))
    return folder


@pytest.mark.parametrize(
    ("typed", "row"),
    [
        ("cat/00001", 0), ("./cat/00001", 0), ("cat/00001.png", 0), ("./dog/00002.JPG", 3),
        ("00007", 4), ("00007.jpeg", 4), ("./00007", 4), ("x.1", 5), ("x.1.png", 5),
    ],
)  # fmt: skip
def test_a_key_a_file_name_and_a_path_name_the_same_sample(tmp_path: Path, typed: str, row: int) -> None:
    assert SampleFinder(a_run(tmp_path, FOLDER)).find(typed) == row


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b/c"]), st.text("ab/.png", min_size=1, max_size=6)), unique=True
    )
)
def test_every_sample_is_found_by_its_shard_and_key_whatever_it_is_called(
    pairs: list[tuple[str, str]],
) -> None:
    names = SampleFinder(Path("run"), pairs)
    assert [names.find(key, shard) for shard, key in pairs] == list(range(len(pairs)))


def test_a_path_is_understood_below_the_dataset_s_own_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tars = a_run(tmp_path / "run", FOLDER), a_run(tmp_path / "tars", TARS)
    for folder, source in ((run, tmp_path / "pics"), (tars, tmp_path / "set/{00000..00001}.tar")):
        record = json.loads((folder / "run.json").read_text()) | {"opened": {"source": str(source)}}
        (folder / "run.json").write_text(json.dumps(record))
    (tmp_path / "pics").mkdir()
    monkeypatch.chdir(tmp_path)
    names = SampleFinder(run)
    assert names.find("pics/cat/00002.png") == 1 and names.find(f"{tmp_path}/pics/00007") == 4
    assert SampleFinder(tars).find("set/00001.tar/00003") == 2
    for elsewhere in ("other/cat/00002.png", "/pics/00007", "../pics/00007.png"):
        with pytest.raises(RunError, match="has 0 samples"):
            names.find(elsewhere)


def test_a_key_of_several_shards_asks_which(tmp_path: Path) -> None:
    names = SampleFinder(a_run(tmp_path, TARS))
    with pytest.raises(RunError, match=r"has 2 samples of key '00003'.*00000\.tar/00003, 00001\.tar/00003"):
        names.find("00003")
    assert names.find("00009") == 4 and names.find("00001.tar/00003") == 2
    with pytest.raises(RunError, match=r"2 samples of key '00002\.png'.*cat/00002.*dog/00002"):
        SampleFinder(a_run(tmp_path / "folder", FOLDER)).find("00002.png")


@pytest.mark.parametrize(
    ("typed", "shard", "help_"),
    [
        ("000O9", "", r"nearest: 00001\.tar/00009"),
        ("9", "", r"nearest: 00001\.tar/00009"),
        ("nobody", "", r"one that is there: 00000\.tar/00003"),
        ("00099", "", r"could not be read.*bad\.parquet.*truncated"),
        ("00009", "00000.tar", r"lies in another shard: 00001\.tar/00009"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    tmp_path: Path, typed: str, shard: str, help_: str
) -> None:
    with pytest.raises(RunError, match="has 0 samples of key .*" + help_):
        SampleFinder(a_run(tmp_path, TARS)).find(typed, shard)


@pytest.mark.parametrize(
    ("typed", "help_"),
    [
        ("7", r"nearest: \./00007"),
        ("1", r"nearest: \./cat/00001, \./dog/00001"),
        ("CAT/00002", r"nearest: \./cat/00002"),
        ("00007.txt", r"nearest: \./00007"),
        ("00098", r"could not be read.*\./cat/00098: truncated"),
        ("00098.jpg", r"could not be read.*\./cat/00098: truncated"),
        ("cat/00098.jpg", "could not be read.*: truncated"),
        ("pics/cat/00098.jpg", "could not be read.*: truncated"),
    ],
)
def test_in_a_folder_the_last_part_of_a_key_is_helped_with_too(
    typed: str, help_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path / "run", FOLDER)
    bad = {"shard": ["."], "key": ["cat/00098"], "reason": ["truncated"]}
    pq.write_table(pa.table(bad), run / "bad.parquet")
    record = json.loads((run / "run.json").read_text()) | {"opened": {"source": [str(tmp_path / "pics")]}}
    (run / "run.json").write_text(json.dumps(record))
    (tmp_path / "pics").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="has 0 samples of key .*" + help_):
        SampleFinder(run).find(typed)


def decided(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "mine.csv").write_text(text)
    return folder / "mine.csv"


@pytest.mark.parametrize(
    "text",
    [
        "key,decision\n00007,drop\ncat/00002.png,drop\n",
        "shard,key,decision\n,00007,drop\n.,cat/00002,drop\n",
        "decision,key\ndrop,./00007\nkeep,dog/00001\ndrop,cat/00002\n",
        "Key; Decision\n00007;drop\n;\n\ncat/00002;Drop\n ; \n",
    ],
)
def test_decisions_need_no_shard_where_the_key_says_enough(tmp_path: Path, text: str) -> None:
    run = a_run(tmp_path / "run", FOLDER)
    chosen = choose_drops(run, decisions=decided(tmp_path, text))
    assert [shown(pair) for pair in pairs_of(chosen)] == ["./00007", "./cat/00002"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("key,decision\n00007,drop\n0007x,drop\n", RunError, r"row 2.*0007x.*such as: \.,cat/00001,drop"),
        ("key,decision\n00007,drop\n00007.png,keep\n", DataError, r"row 2.*\./00007.*decide once"),
        ("00007,drop\n", DataError, r"must name the columns: key,decision.*it is '00007,drop'"),
        ("name,decision\n00007,drop\n", DataError, "must name the columns.*it is 'name,decision'"),
        ("key,decision\n,drop\n", DataError, "row 1: expected text in key and decision"),
    ],
)
def test_a_decision_that_names_nobody_shows_a_row_that_would(
    tmp_path: Path, text: str, error: type[Exception], words: str
) -> None:
    run = a_run(tmp_path / "run", FOLDER)
    with pytest.raises(error, match=words):
        choose_drops(run, decisions=decided(tmp_path, text))


def test_decisions_in_other_files_are_read_or_refused_in_words(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", FOLDER)
    lines = '{"key": "00007", "decision": "drop"}\n\n{"key": "cat/00002", "decision": "drop"}\n\n'
    (tmp_path / "mine.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert len(choose_drops(run, decisions=tmp_path / "mine.jsonl")) == 2
    (tmp_path / "mine.csv").write_text("key,decision\n00007,drop\n", "utf-16")
    with pytest.raises(DataError, match=r"mine\.csv .*save it as UTF-8"):
        choose_drops(run, decisions=tmp_path / "mine.csv")


def test_lists_are_added_to_and_a_later_keep_takes_off(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", FOLDER)
    write_lists(run, choose_drops(run, fraction=0.5))  # rows 0, 1, 2
    write_lists(run, choose_drops(run, decisions=decided(tmp_path, "key,decision\n00007,drop\n"), add=True))
    assert pq.read_table(run / "drop.parquet")["key"].to_pylist() == [
        key for _, key in (*FOLDER[:3], FOLDER[4])
    ]
    later = decided(tmp_path, "key,decision\ncat/00001,keep\n00007,drop\n")
    write_lists(run, choose_drops(run, decisions=later, add=True))
    assert pq.read_table(run / "drop.parquet")["key"].to_pylist() == [
        key for _, key in (*FOLDER[1:3], FOLDER[4])
    ]
    write_lists(run, choose_drops(run, threshold=-0.5, add=True))
    assert pq.read_table(run / "drop.parquet").num_rows == 4
    told = in_words(rule_of_run(run), "dao")
    assert told.startswith("the most suspicious 50 % of all and those decided on in mine.csv")
    assert told.endswith("every dao above -0.5")


def test_a_rule_that_a_stranger_wrote_is_not_told(tmp_path: Path) -> None:
    for rule in (b"[1]", b"{", b'{"joined": 3}', b"[" * 100_000, b'{"fraction": "<b>"}'):
        schema = pa.schema([("shard", pa.string())], metadata={b"clipscan.rule": rule})
        pq.write_table(schema.empty_table(), tmp_path / "drop.parquet")
        assert in_words(rule_of_run(tmp_path), "dao") == ""
    assert rule_of_run(tmp_path / "nowhere") == {}


def test_names_reach_the_terminal_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;owned\x07k\x9b2J"
    names = SampleFinder(a_run(tmp_path / "run", [("a.tar", evil), ("b.tar", evil)]))
    with pytest.raises(RunError) as told:
        names.find(evil)
    with pytest.raises(RunError) as unknown:
        names.find("nonsense")
    assert "a.tar/\\x1b]0;owned\\x07k" in str(told.value) and str(unknown.value).isprintable()
    monkeypatch.setattr(cli, "app", lambda: (_ for _ in ()).throw(RunError(f"one {evil}\ntwo")))
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "clipscan: one \\x1b]0;owned\\x07k\\x9b2J\ntwo\n"
