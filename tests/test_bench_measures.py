"""What the benchmark measures: planted errors lower recall, ties do not; percentiles, rates, memory."""

import numpy as np
import pytest

from clipscan import bench
from clipscan.bench import exact, rows, worker


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
