"""The map: near samples near, the same each time, and lassoed samples decided on."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Opened, chromium
from report_helpers import Page, a_run, some_samples
from run_helpers import scan_vectors
from typer.testing import CliRunner

import clipscan
from clipscan.cli import app
from clipscan.errors import InputError, RunError
from clipscan.report.map import draw_map, layout, read_map
from clipscan.report.map.layout import weights
from clipscan.report.map.map_file import MapPoints
from clipscan.report.page import write_page
from clipscan.report.page.map_data import map_data
from clipscan.run import Run

BLOBS, EACH = 5, 60


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    """Five far clusters of sixty rows in 16 dimensions."""
    rng = np.random.default_rng(0)
    return (
        np.repeat(8 * rng.normal(size=(BLOBS, 16)), EACH, axis=0) + rng.normal(size=(BLOBS * EACH, 16))
    ).astype(np.float32)


def test_clusters_of_the_graph_are_clusters_of_the_map(blobs: np.ndarray) -> None:
    graph = clipscan.knn(blobs, k=10, threads=1)
    start = blobs[:, :2]
    found = layout(graph.index, graph.distance, start, epochs=40)
    near = clipscan.knn(found, k=5, threads=1).index
    blob = np.repeat(np.arange(BLOBS), EACH)
    assert (blob[near] == blob[:, None]).mean() > 0.97
    assert np.array_equal(found, layout(graph.index, graph.distance, start, epochs=40))


def test_weights_of_a_row_sum_to_the_logarithm_of_its_neighbours(blobs: np.ndarray) -> None:
    graph = clipscan.knn(blobs, k=16, threads=1)
    index = graph.index.copy()
    index[0, 8:] = -1
    found = weights(index, graph.distance)
    assert found.sum(axis=1) == pytest.approx(np.r_[3.0, np.full(len(blobs) - 1, 4.0)], rel=1e-3)
    assert (found[:, 0] == 1).all() and (np.diff(found[1:], axis=1) <= 0).all() and not found[0, 8:].any()


@pytest.mark.parametrize("n", [1, 2, 40])
def test_points_without_neighbours_or_all_equal_have_places_too(n: int) -> None:
    for index in (np.full((n, 3), -1), np.zeros((n, 3), np.int64), np.zeros((n, 0), np.int64)):
        distance = np.zeros(index.shape, np.float32)
        found = layout(index.astype(np.int64), distance, np.zeros((n, 2), np.float32), epochs=5)
        assert found.shape == (n, 2) and np.isfinite(found).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"\[n, 2\]"):
        layout(np.zeros((4, 2), np.int64), np.zeros((4, 2), np.float32), np.zeros((3, 2), np.float32))


@pytest.fixture
def run(tmp_path: Path, blobs: np.ndarray) -> Run:
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "vectors.npy", blobs)
    return Run(scan_vectors(tmp_path / "data" / "vectors.npy", tmp_path / "run", fraction=0.05).out)


def test_the_command_draws_all_samples_into_the_page(run: Run) -> None:
    done = CliRunner().invoke(app, ["map", str(run.path), "--epochs", "3"])
    assert done.exit_code == 0 and "300 samples on the map" in done.output
    data = json.loads(Page(run / "report/index.html").scripts[1])
    assert len(data["map"]["sample"]) == 300
    shown = {data["samples"]["key"][number] for number in data["map"]["sample"] if number >= 0}
    assert shown | set(data["map"]["key"]) == {f"{i:09d}" for i in range(300)}
    x, y = (np.frombuffer(base64.b64decode(data["map"][axis]), "<u2") for axis in "xy")
    assert len(x) == len(y) == 300 and max(np.ptp(x), np.ptp(y)) > 60_000


def test_of_many_samples_the_suspects_and_others_are_drawn(run: Run) -> None:
    assert draw_map(run, most=100, epochs=2) == 100
    points = read_map(run.path)
    assert points is not None and len(points.pairs) == 100
    suspects = pq.read_table(run / "suspects.parquet", columns=["shard", "key"])
    pairs = zip(suspects["shard"].to_pylist(), suspects["key"].to_pylist(), strict=True)
    assert set(pairs) <= set(points.pairs)


def test_a_run_without_scores_has_no_map(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="score stage"):
        draw_map(Run(tmp_path))


def test_a_file_that_is_no_map_is_passed_over(run: Run) -> None:
    path = run / "report/map.parquet"
    path.write_bytes(b"nothing")
    assert read_map(run.path) is None
    pq.write_table(
        pa.table({"shard": ["s", "s"], "key": ["a", "b"], "x": [0.0, np.nan], "y": [0.0, 1.0]}), path
    )
    assert [pair[1] for pair in read_map(run.path).pairs] == ["a"]
    pq.write_table(pa.table({"shard": ["s"]}), path)
    assert read_map(run.path) is None


def test_a_lasso_chooses_what_lies_inside_and_decides_on_it(tmp_path: Path) -> None:
    samples = some_samples(300)
    folder = a_run(tmp_path, samples, suspects=40)
    corner = np.arange(300) % 4  # four heaps, one in each corner
    columns = {"shard": [one.shard for one in samples], "key": [one.key for one in samples]}
    columns |= {"x": (corner % 2).astype(np.float32), "y": (corner // 2).astype(np.float32)}
    (folder / "report").mkdir()
    pq.write_table(pa.table(columns), folder / "report/map.parquet")
    with chromium() as browser:
        opened = Opened(browser, write_page(folder, None).as_uri())
        opened.press("m")
        opened.page.get_by_role("button", name="Lasso").click()
        box = opened.page.locator(".map canvas").bounding_box()
        side = min(box["width"], box["height"])
        left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
        opened.page.mouse.move(left + 0.52 * side, top + 0.52 * side)
        opened.page.mouse.down()
        for x, y in ((0.52, 1), (1, 1), (1, 0.52)):
            opened.page.mouse.move(left + x * side, top + y * side, steps=3)
        opened.page.mouse.up()
        assert "75 samples" in opened.page.locator(".map .answers").inner_text()
        opened.press("d")
        assert opened.words() == {f"key{i:04d}": "drop" for i in range(300) if i % 4 == 3}
        opened.press("z")
        assert opened.words() == {}
        opened.page.get_by_role("button", name="Show them").click()
        assert opened.script("clipscan.review.list.length") == 75
        opened.press("m")
        opened.page.mouse.move(left + 0.02 * side, top + 0.02 * side)
        opened.check()


def test_a_map_of_names_without_end_is_none() -> None:
    points = MapPoints([("s", "k" * 2000)] * 3, np.zeros((3, 2), np.float32))
    assert map_data(points, {}, set()) is None
