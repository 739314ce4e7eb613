"""The benchmark measures what it says: planted errors lower recall, ties do not, no peer leaves unsaid."""

import csv
import importlib.util
import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clipscan import _core, bench, cli
from clipscan.bench import driver, exact, rows, worker
from clipscan.bench import embed as bench_embed
from clipscan.errors import ClipscanError, InputError

DRIVER = Path(__file__).parents[1] / "bench" / "knn.py"
needs_driver = pytest.mark.skipif(not DRIVER.exists(), reason="bench/knn.py: run from a checkout")


@pytest.fixture(scope="module")
def x():
    return bench.clustered(400, 24)


@pytest.fixture(scope="module")
def table(x):
    """Exact neighbours of all rows, by the direct form in float64."""
    wide = x.astype(np.float64)
    distance = np.linalg.norm(wide[:, None] - wide[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    index = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, index, axis=1), index


def test_the_kth_distance_is_that_of_the_direct_form(x, table):
    some = np.array([0, 7, 399])
    assert bench.exact_kth(x, some, 5) == pytest.approx(table[0][some, 4], rel=1e-12)
    assert bench.exact_kth(x, np.arange(400), 399) == pytest.approx(table[0][:, 398], rel=1e-12)


def test_copies_are_at_distance_zero():
    x = np.repeat(bench.clustered(30, 24), 4, axis=0)
    assert (bench.exact_kth(x, np.arange(120), 3) == 0).all()
    assert (bench.exact_kth(x, np.arange(120), 4) > 0.01).all()


def test_recall_of_the_exact_table_is_one_in_any_order(x, table):
    some = np.arange(0, 400, 3)
    index, kth = table[1][:, :5], table[0][some, 4]
    assert bench.recall(x, index, some, kth) == 1
    assert bench.recall(x, index[:, ::-1].astype(np.uint32), some, kth) == 1


@pytest.mark.parametrize("planted", ["farther", "itself", "twice", "nobody"])
def test_a_wrong_neighbour_lowers_the_recall(x, table, planted):
    index, some = table[1][:, :5].copy(), np.arange(400)
    index[7, 2] = {"farther": table[1][7, 5], "itself": 7, "twice": index[7, 1], "nobody": -1}[planted]
    assert bench.recall(x, index, some, table[0][:, 4]) == pytest.approx(1 - 1 / 2000)


def test_a_tie_does_not_lower_the_recall():
    x = np.repeat(
        bench.clustered(30, 24), 4, axis=0
    )  # row 0 has the copies 1, 2, 3; then 4 at one distance each
    near = np.linalg.norm(x - x[0], axis=1)
    near[:4] = np.inf
    ties = 4 * (np.argmin(near) // 4) + np.arange(4)
    for tie in ties:
        index = np.array([[1, 2, 3, tie]])
        assert bench.recall(x, index, np.array([0]), bench.exact_kth(x, np.array([0]), 4)) == 1


def test_the_difference_of_scores_is_relative_and_the_largest():
    assert exact.difference(np.array([1.0, 2.0, 3.3]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.1)


def test_percentiles_are_of_all_rounds():
    found = rows.spread([{"wall": seconds} for seconds in (5.0, 1.0, 2.0, 3.0, 4.0, 6.0)], "wall")
    assert found == pytest.approx({"wall_p20": 2.0, "wall_median": 3.5, "wall_p80": 5.0})


def test_the_rate_counts_every_pair_once_in_each_direction():
    row = {"n": 1000, "d": 500, "cpu_median": 0.5, "int8_peak": 400.0, "float32_peak": 100.0}
    assert rows.rates(row) == {"gflop_per_cpu_s": 2.0, "share_int8": 0.005, "share_float32": 0.02}


def test_memory_is_what_a_call_holds_beyond_what_was_there():
    if np.isnan(worker.resident("self")):
        pytest.skip("resident memory: needs /proc/self/status (Linux)")
    held = np.ones(8 << 20)
    with bench.Watch() as watch:
        more = np.ones(8 << 20)
    assert 0.9 * more.nbytes < watch.beyond < 0.6 * (held.nbytes + more.nbytes)


def test_memory_is_unknown_where_the_system_does_not_say():
    with bench.Watch("nobody") as watch:
        pass
    assert np.isnan(watch.beyond)


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


EMBED = ["bench", "embed", "--device", "cpu", "--workers", "1", "--model"]
PARTS = ["encoder", "captions", "decode", "untrained", "end to end"]


@pytest.mark.parametrize(
    ("model", "parts"),
    [("clipscan-conv-32", PARTS), ("clipscan-vit-32", ["encoder", "heads", *PARTS[1:]])],
)
def test_clipscan_bench_embed_prints_one_table_with_every_part(tmp_path, model, parts):
    pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")
    file = tmp_path / "own.csv"
    options = ["--n", "20", "--batch-size", "8", "--rounds", "2", "--csv", str(file)]
    done = CliRunner().invoke(cli.app, [*EMBED, model, *options])
    assert done.exit_code == 0, done.output
    assert f"{model}, fp32, on cpu" in done.stdout and "20 JPEG pictures of 400 x 300" in done.stdout
    lines = list(csv.DictReader(file.open()))
    assert tuple(lines[0]) == bench_embed.COLUMNS
    assert [line["case"] for line in lines] == parts
    for line in lines:
        assert 0 < float(line["rate_p20"]) <= float(line["rate_median"]) <= float(line["rate_p80"])
        assert (line["n"], line["workers"], line["rounds"], line["compiled"]) == ("20", "1", "2", "0")


def test_clipscan_bench_embed_leaves_the_file_of_the_search_alone(tmp_path):
    file = tmp_path / "results.csv"
    bench.append(file, [{"peer": "clipscan"}])
    before = file.read_text()
    done = CliRunner().invoke(cli.app, [*EMBED, "clipscan-conv-32", "--csv", str(file)])
    assert isinstance(done.exception, InputError) and "other columns" in str(done.exception)
    assert file.read_text() == before


def test_generated_pictures_are_different_pictures_of_web_size():
    pairs = list(itertools.islice(bench_embed.generated(), 40))
    assert len({pair.image for pair in pairs}) == len({pair.caption for pair in pairs}) == 40
    for pair in pairs[:3]:
        with Image.open(io.BytesIO(pair.image)) as picture:
            assert picture.format == "JPEG" and picture.size == bench_embed.SIZE


def test_an_embedding_plan_is_refused_in_words():
    with pytest.raises(InputError, match="at least 1"):
        bench_embed.EmbedPlan(n=0)


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
