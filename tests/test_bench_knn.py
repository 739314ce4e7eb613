"""clipscan bench knn and its driver: one table and one file, no peer left unsaid."""

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clipscan import _core, bench, cli
from clipscan.bench import driver, rows
from clipscan.errors import ClipscanError, InputError

DRIVER = Path(__file__).parents[1] / "bench" / "knn.py"
needs_driver = pytest.mark.skipif(not DRIVER.exists(), reason="bench/knn.py: run from a checkout")


def test_csv_has_one_header_and_empty_cells_for_the_unknown(tmp_path):
    file = tmp_path / "results.csv"
    for recall in (1.0, 0.99998):
        bench.append(file, [{"peer": "a,b", "recall": recall, "k": 16, "memory_mb": float("nan")}])
    lines = list(csv.DictReader(file.open()))
    assert file.read_text().count("date,commit") == 1 and tuple(lines[0]) == rows.COLUMNS
    assert [line["recall"] for line in lines] == ["1", "0.99998"]
    assert lines[0]["peer"] == "a,b" and lines[0]["memory_mb"] == lines[0]["recall_outliers"] == ""


def test_csv_with_other_columns_is_refused_before_anything_is_measured(tmp_path):
    file = tmp_path / "other.csv"
    file.write_text("name,value\n")
    with pytest.raises(InputError, match="other columns"):
        bench.report((pytest.fail("measured") for _ in range(1)), file)


def test_a_plan_is_refused_in_words():
    with pytest.raises(InputError, match="between 1 and n - 1 = 99"):
        bench.KnnPlan(100, 8, (16, 100), 1, 1)
    with pytest.raises(InputError, match="no case umap"):
        bench.KnnPlan(100, 8, (16,), 1, 1, ("umap",))
    with pytest.raises(InputError, match="at least 1"):
        bench.KnnPlan(100, 8, (16,), 1, 0)
    with pytest.raises(InputError, match="whole numbers"):
        bench.parse_ks(["16;64"])
    assert bench.parse_ks(["16,64"]) == bench.parse_ks(["16", "64"]) == (16, 64)


PEER = """
import os, sys
import numpy as np
from clipscan.bench import Peer, serve

def load(threads):
    assert os.environ["OMP_NUM_THREADS"] == str(threads)
    {load}
    return Peer("1.0", {{"knn": knn}})

def knn(x, k):
    print("noise that a library makes")
    {knn}
    return np.argsort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)[:, 1 : k + 1]

serve(load)
"""


def peer(load="pass", knn="pass"):
    return [sys.executable, "-P", "-c", PEER.format(load=load, knn=knn)]


def test_a_peer_that_is_missing_or_dies_is_left_out_aloud(monkeypatch):
    monkeypatch.setattr(_core, "peak", lambda threads: {"int8": 400.0, "float32": 100.0})
    monkeypatch.setattr(driver, "SETTLE", 0)
    said = []
    peers = {
        "good": peer(),
        "missing": peer(load="import no_such_library"),
        "dies": peer(knn="if len(x) == 300 and k == 5: os._exit(3)"),  # after its warm-up with k = 4
    }
    plan = bench.KnnPlan(300, 8, (5, 4), threads=1, rounds=3)
    got = list(bench.drive(plan, peers, said.append))
    assert [(row["peer"], row["k"], row["recall"]) for row in got] == [("good", 5, 1), ("good", 4, 1)]
    aloud = [line for line in said if line.startswith("left out")]
    assert (
        len(aloud) == 2
        and "no_such_library" in aloud[0]
        and "dies, its process ended with code 3" in aloud[1]
    )


def test_peaks_of_amx_and_of_the_kernel_that_it_replaces_stand_side_by_side(monkeypatch):
    def peak(threads, instruction_set="amx"):
        return {"int8": {"amx": 300.0, "avx512": 200.0}[instruction_set], "float32": 100.0}

    monkeypatch.setattr(_core, "peak", peak)
    monkeypatch.setattr(_core, "instruction_sets", lambda: ["amx", "avx512", "base"])
    row = {"n": 2, "d": 8, "data": "tight", "rounds": 1, "threads": 1} | rows.machine()
    assert "int8 300 GOP/s (avx512 200), float32 100 GFLOP/s" in rows.table([row])
    monkeypatch.setattr(_core, "instruction_sets", lambda: ["avx512", "base"])
    assert rows.machine()["int8_beside"] == {}


def test_every_kernel_has_a_peak():
    for name in [*_core.instruction_sets(), "amx_plain"]:
        assert min(_core.peak(1, name).values()) > 0, name


def test_nothing_measured_is_an_error():
    with pytest.raises(ClipscanError, match="every peer was left out"):
        bench.report([])


def test_clipscan_bench_knn_prints_one_table(monkeypatch, tmp_path):
    monkeypatch.setattr(_core, "peak", lambda threads: {"int8": 400.0, "float32": 100.0})
    options = ["--n", "300", "--d", "32", "--k", "4,8", "--rounds", "2", "--threads", "1"]
    done = CliRunner().invoke(cli.app, ["bench", "knn", *options, "--csv", str(tmp_path / "own.csv")])
    assert done.exit_code == 0, done.output
    assert "300 x 32" in done.stdout and "int8 400 GOP/s" in done.stdout
    lines = list(csv.DictReader((tmp_path / "own.csv").open()))
    assert [(line["peer"], line["k"], line["recall"]) for line in lines] == [
        ("clipscan", "4", "1"),
        ("clipscan", "8", "1"),
    ]
    assert all(float(line["measured_per_row"]) >= 4 for line in lines)


@needs_driver
def test_the_driver_measures_clipscan_beside_its_peers(tmp_path):
    file = tmp_path / "results.csv"
    options = ["--n", "300", "--d", "32", "--k", "8", "--rounds", "2", "--threads", "1", "--peers", "sklearn"]
    done = subprocess.run(
        [sys.executable, DRIVER, *options, "--csv", file], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader(file.open()))
    assert [(line["case"], line["peer"]) for line in lines] == [
        ("knn", "clipscan"),
        ("knn", "sklearn"),
        ("lof", "clipscan"),
        ("lof", "sklearn"),
    ]
    assert (
        [line["recall"] for line in lines]
        == [line["recall_outliers"] for line in lines]
        == ["1", "1", "", ""]
    )
    assert float(lines[2]["score_difference"]) < 1e-4 and lines[3]["score_difference"] == ""
    for line in lines:
        assert 0 < float(line["wall_p20"]) <= float(line["wall_median"]) <= float(line["wall_p80"])
        assert float(line["share_int8"]) == pytest.approx(
            float(line["gflop_per_cpu_s"]) / float(line["int8_peak"]), rel=1e-3
        )


@needs_driver
def test_a_row_is_taken_out_of_its_own_neighbours():
    spec = importlib.util.spec_from_file_location("driver", DRIVER)
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    index = np.array([[0, 3, 2], [2, 1, 0], [3, 0, 1], [1, 0, 3]])  # row 2: copies took its place
    assert peers.without_self(index).tolist() == [[3, 2], [2, 0], [3, 0], [1, 0]]
