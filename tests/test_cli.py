"""The command: exit codes, messages, and the way from a run to a clean dataset."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest


def clipscan(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "clipscan", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    np.save(folder / "vectors.npy", rng.standard_normal((400, 16)).astype(np.float32))
    clipscan("scan", folder / "vectors.npy", "--out", folder / "run", "--k", 5, "--reference", "100x2")
    return folder / "run"


def test_help_names_every_command():
    text = clipscan("--help")
    for verb in (
        "scan",
        "embed",
        "knn",
        "score",
        "report",
        "status",
        "explain",
        "export",
        "partition",
        "apply",
        "train",
        "demo",
        "doctor",
        "bench",
        "heads",
        "lab",
    ):
        assert verb in text


def test_a_search_that_cannot_be_served_is_refused_before_anything_is_embedded(run, tmp_path):
    vectors = run.parent / "vectors.npy"
    text = clipscan("scan", vectors, "--out", tmp_path / "new", "--backend", "warp", code=1)
    assert "no back-end 'warp' in this build; it has: cuda, triton, cpu, reference" in text
    text = clipscan("scan", vectors, "--out", tmp_path / "new", "--devices", "first", code=2)
    assert "numbers of GPUs such as 0,1; got 'first'" in text
    assert not (tmp_path / "new").exists()


def test_scan_says_what_it_did(run):
    text = clipscan("scan", run.parent / "vectors.npy", "--out", run, "--k", 5, "--reference", "100x2")
    assert "400 listed = 400 embedded + 0 bad" in text and "4 suspects" in text
    assert "no pairs are convicted" in text and "0 to drop, 400 to keep" in text
    assert "groups of suspects whose captions say the same, 0 groups of near-copies" in text
    assert "report/index.html" in text and "clipscan export" in text
    assert "clipscan apply" not in text, "there is nothing to leave out"


def test_log_json_is_one_object_a_line(tmp_path, run):
    source = run.parent / "vectors.npy"
    command = [
        sys.executable,
        "-P",
        "-m",
        "clipscan",
        "scan",
        source,
        "--out",
        tmp_path / "r",
        "--log-json",
        "--k",
        "5",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"stage": "score"} in lines and any(line.get("share") == 1.0 for line in lines)


def test_other_settings_exit_1_with_the_remedy(run):
    assert "--overwrite" in clipscan("score", run, "--k", 6, "--reference", "100x2", code=1)


def test_wrong_use_exits_2(run, tmp_path):
    clipscan("scan", code=2)
    assert "none of 'all'" in clipscan(
        "scan", run.parent / "vectors.npy", "--out", tmp_path / "x", "--reference", "abc", code=2
    )
    assert "exactly one" in clipscan("export", run, code=2)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--workers", "0"), "--workers"),
        (("--batch-size", "0"), "--batch-size"),
        (("--batch-size", "-5"), "--batch-size"),
        (("--seed", "-1"), "--seed -1"),
        (("--seed", "9" * 23), "--seed 999"),
        (("--against", "image+text"), "no caption vectors"),
    ],
)
def test_numbers_and_words_that_no_scan_can_have_are_refused_in_words(run, tmp_path, asked, words):
    text = clipscan("scan", run.parent / "vectors.npy", "--out", tmp_path / "x", *asked, code=2)
    assert words in text and "Traceback" not in text


def test_a_graph_that_was_asked_for_by_name_is_made_or_refused(run):
    assert "--k 400 needs more than 400 samples" in clipscan("knn", run, "--k", 400, code=2)


def test_a_missing_dataset_exits_1_and_says_what_is_there(tmp_path):
    (tmp_path / "notes.doc").write_text("nothing")
    assert ".doc" in clipscan("scan", tmp_path, "--out", tmp_path / "run", code=1)
    assert "no run.json" in clipscan("status", tmp_path, code=1)


def test_dry_run_reads_and_writes_nothing(run, tmp_path):
    assert "embeddings" in clipscan(
        "scan", run.parent / "vectors.npy", "--out", tmp_path / "dry", "--dry-run"
    )
    assert not (tmp_path / "dry").exists()


def test_status_and_explain_speak_of_the_run(run):
    text = clipscan("status", run)
    assert "1 of 1 tasks" in text and "400 listed = 400 embedded" in text
    assert "0 to drop, 400 to keep (drop.parquet, keep.txt): no pairs are convicted" in text
    key = pq.read_table(run / "suspects.parquet")["key"][0].as_py()
    text = clipscan("explain", run, key)
    assert "dao" in text and "nearest in the whole set" in text
    assert "a suspect: rank 1 of 400 by consensus" in text and "not on the drop list" in text
    assert "why: " in text and "a higher value is more suspicious" in text
    assert "0 samples" in clipscan("explain", run, "nobody", code=1)


def test_export_changes_the_lists_and_apply_writes_the_rest(run, tmp_path):
    text = clipscan("export", run, "--fraction", 0.1)
    assert "40 to drop" in text and "next: clipscan apply" in text and "the list before" not in text
    assert "no keep_uids.npy: " in text
    clipscan("apply", run, "--to", tmp_path / "clean")
    clipscan("scan", run.parent / "vectors.npy", "--out", run, "--k", 5, "--reference", "100x2")
    assert pq.read_table(run / "drop.parquet").num_rows == 40, (
        "a scan that is done leaves a person's lists alone"
    )
    (kept,) = (tmp_path / "clean").rglob("*.npy")
    dropped = pq.read_table(run / "drop.parquet")["key"].to_pylist()
    whole = np.load(run.parent / "vectors.npy")
    expected = np.delete(whole, [int(key) for key in dropped], axis=0)
    assert (np.load(kept) == expected).all()
    assert "is not an empty folder" in clipscan("apply", run, "--to", tmp_path / "clean", code=1)


def test_an_export_says_what_it_replaces_and_adds_where_asked(run, tmp_path):
    keys = pq.read_table(run / "suspects.parquet")["key"].to_pylist()
    clipscan("export", run, "--fraction", 0.01)
    (tmp_path / "mine.csv").write_text(f"key,decision\n{keys[1]},keep\n000000001,drop\n")
    text = clipscan("export", run, "--decisions", tmp_path / "mine.csv", "--add")
    assert (
        "4 to drop" in text and "added to the list before: 4 dropped, the most suspicious 1 % of all" in text
    )
    page = (run / "report/index.html").read_text()
    assert "Nothing is dropped unless" not in page and "4 samples are dropped" in page
    assert page.count('<span class="tag">dropped</span>') == 3, "of the four suspects one was kept"
    text = clipscan("export", run, "--decisions", tmp_path / "mine.csv")
    assert "1 to drop" in text and "in place of the list before (--add would add to it): 4 dropped" in text
    assert "those decided on in mine.csv" in clipscan("status", run)
    text = clipscan("export", run, "--apart")
    assert "0 to drop" in text and "Nothing is dropped unless" in (run / "report/index.html").read_text()


def test_a_damaged_list_is_named_by_status_and_replaced_by_an_export(run):
    clipscan("export", run, "--fraction", 0.01)
    (run / "drop.parquet").write_bytes((run / "drop.parquet").read_bytes()[:-40])
    assert "drop.parquet" in (text := clipscan("status", run)) and "makes it again" in text
    assert "drop.parquet" in clipscan("export", run, "--fraction", 0.02, "--add", code=1)
    assert "8 to drop" in clipscan("export", run, "--fraction", 0.02)
    clipscan("export", run, "--apart")


def test_a_run_that_is_not_scored_says_which_command_comes_next(run, tmp_path):
    text = clipscan("embed", run.parent / "vectors.npy", "--out", tmp_path / "e")
    assert f"next: clipscan score {tmp_path}/e" in text and "400 embedded" in text
    assert f"next: clipscan score {tmp_path}/e" in clipscan("status", tmp_path / "e")
    for verb in (
        ["apply", "--to", tmp_path / "c"],
        ["export", "--fraction", 0.1],
        ["explain", "1"],
        ["report"],
    ):
        assert f"clipscan score {tmp_path}/e" in clipscan(verb[0], tmp_path / "e", *verb[1:], code=1)


def test_what_the_library_calls_an_argument_is_a_flag_here(run, tmp_path):
    vectors = run.parent / "vectors.npy"
    text = clipscan("scan", vectors, "--out", tmp_path / "x", "--fraction", 2, code=2)
    assert "--fraction 2.0 must be" in text and "fraction=" not in text
    text = clipscan("export", run, "--fraction", 0.1, "--threshold", 1, code=2)
    assert "exactly one of --fraction" in text and "given: --fraction, --threshold" in text


def test_an_interrupted_scan_says_that_it_can_go_on(run, tmp_path):
    code = (
        "import signal, clipscan.cli, clipscan.run.shards as stage\n"
        "stage.precomputed_vectors = lambda *_: signal.raise_signal(signal.SIGINT)\n"
        "clipscan.cli.main()"
    )
    command = [sys.executable, "-P", "-c", code, "scan", run.parent / "vectors.npy", "--out", tmp_path / "r"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert "interrupted" in done.stderr and "the same command goes on" in done.stderr


def test_the_version_is_told():
    import clipscan as package

    assert clipscan("--version").split() == ["clipscan", package.__version__]


def test_a_checkpoint_inside_the_dataset_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "0.txt").write_text("a dog")
    (tmp_path / "0.png").write_bytes(b"no picture, and not looked at")
    told = clipscan("train", tmp_path, "--out", tmp_path / "models/m.safetensors", code=1)
    assert "lies inside the dataset" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "0.txt"]
